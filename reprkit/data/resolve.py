"""``rk.dataset``: from a reference, a file or arrays to a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from reprkit.data.arrays import Arrays
from reprkit.data.base import Dataset
from reprkit.data.signature import Signature
from reprkit.errors import DataError
from reprkit.parts import create
from reprkit.plugins import Registry, default_registry
from reprkit.reference import Reference, parse


def dataset(source: Any, *, registry: Registry | None = None) -> Dataset:
    """A data set from whatever names or holds one.

    Args:
        source: a reference (``"digits"``, ``"arrays(path='x.npz')"``), the path of a .npy or .npz file, an
            array or tensor (n ...), a dict of them, or a data set, which is returned as it is.
        registry: where a reference is looked up; the process-wide one when not given.

    Raises:
        UnknownPartError, PartArgumentError, ReferenceSyntaxError: see ``rk.create``.
        DataError: the source is none of these, or what it holds is not fit for use.
    """
    if isinstance(source, Path) or (isinstance(source, str) and source.strip().endswith((".npy", ".npz"))):
        return Arrays(source if isinstance(source, Path) else source.strip())
    if isinstance(source, str | Reference):
        reference = parse(source) if isinstance(source, str) else source
        made = create("dataset", reference, registry=registry)
        found = (registry or default_registry()).find("dataset", reference)
        checked = _checked(made, f"dataset {found.qualified}")
        checked.reference = str(Reference(found.name, reference.arguments, found.distribution))
        return checked
    if isinstance(source, Dataset):
        return _checked(source, type(source).__name__)
    if isinstance(source, Mapping | np.ndarray | Tensor | list | tuple):
        return Arrays(source)
    raise DataError(
        f"a data set is a reference such as 'digits', a .npy or .npz file, arrays, or an rk.Dataset, not "
        f"{type(source).__name__}\n"
        "  make a class of it: subclass rk.Dataset, set signature, define __len__ and __getitem__"
    )


def _checked(made: Any, what: str) -> Dataset:
    if not isinstance(made, Dataset):
        raise DataError(
            f"{what} made a {type(made).__name__}, which is no rk.Dataset: its class must subclass it"
        )
    if not isinstance(getattr(made, "signature", None), Signature):
        raise DataError(f"{what} has no signature: set self.signature = Signature({{'x': Field(...)}})")
    if len(made) == 0:
        raise DataError(f"{what} is empty: it has no examples")
    return made
