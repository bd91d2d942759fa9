"""Lazy imports of a package's public names (PEP 562), including names from other packages.  Does not import torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import lazy_loader


def attach(
    package: str, submod_attrs: Mapping[str, list[str]], elsewhere: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package, like ``lazy_loader.attach`` but also for names from other packages.

    Args:
        package: ``__name__`` of the package.
        submod_attrs: module of the package -> its public names, as in ``lazy_loader.attach``.
        elsewhere: public name -> the module of another package that defines it.
    """
    resolve, own_names, _ = lazy_loader.attach(package, submod_attrs=dict(submod_attrs))

    def getattr_(name: str) -> Any:
        if name in elsewhere:
            return getattr(importlib.import_module(elsewhere[name]), name)
        return resolve(name)

    def dir_() -> list[str]:
        return sorted({*own_names(), *elsewhere})

    return getattr_, dir_
