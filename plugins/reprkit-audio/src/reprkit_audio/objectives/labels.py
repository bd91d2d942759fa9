"""What the objectives that know the speakers share: how many there are, and who speaks."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from reprkit import Model
from reprkit.errors import BuildError, DataError, nearest
from reprkit.types import Batch


def classes_of(model: Model, label: str, part: str) -> int:
    """How many classes a label field has.

    Raises:
        BuildError: no such label field, or fewer than two classes.
    """
    known = {name: each for name, each in (model.signature or {}).items() if each.kind == "label"}
    if label not in known:
        raise BuildError(
            f"objective {part} reads the label field {label!r}, which the data does not have.{nearest(label, known)}\n"
            f"  label fields: {', '.join(known) or 'none'}; say label=NAME"
        )
    count = known[label].vocab
    if count is None or count < 2:
        raise BuildError(
            f"objective {part} needs at least two speakers, and field {label!r} has {count}: add recordings of another"
        )
    return count


def labels_of(batch: Batch, label: str, part: str) -> Int[Tensor, " b"]:
    """The labels of a batch.

    Raises:
        DataError: it has none.
    """
    if label not in batch:
        raise DataError(f"objective {part} reads field {label!r}; the batch has {', '.join(batch)}")
    return batch[label]


def factor_of(model: Model, factor: str | None, part: str) -> str:
    """The factor of that name, or the only one.

    Raises:
        BuildError: there is no such factor, or there are several and none is named.
    """
    if factor is None and len(model.factors) == 1:
        return next(iter(model.factors))
    if factor is None or factor not in model.factors:
        raise BuildError(
            f"objective {part} has no factor {factor!r} to work on.{nearest(str(factor), model.factors)}\n"
            f"  factors: {', '.join(model.factors) or 'none'}; say factor=NAME"
        )
    return factor
