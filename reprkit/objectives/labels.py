"""What the objectives that read labels share: how many classes there are, and the labels of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor

from reprkit.errors import BuildError, DataError, nearest
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit.models.model import Model


def count_classes(model: Model, label: str, part: str) -> int:
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
            f"objective {part} needs at least two classes, and label field {label!r} states vocab={count}"
        )
    return count


def get_labels(batch: Batch, label: str, part: str) -> Int[Tensor, " b"]:
    """The labels of a batch.

    Raises:
        DataError: it has none.
    """
    if label not in batch:
        raise DataError(f"objective {part} reads field {label!r}; the batch has {', '.join(batch)}")
    return batch[label]
