"""Label fields, for the objectives that read them: the number of classes, and the labels of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Int
from torch import Tensor

from reprkit.errors import BuildError, DataError, nearest
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit.models.model import Model


def count_classes(model: Model, label: str, part: str) -> int:
    """Return the number of classes of a label field.

    Raises:
        BuildError: the label field does not exist, or has fewer than two classes.
    """
    known = {name: field for name, field in (model.signature or {}).items() if field.kind == "label"}
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
    """Return the labels of a batch.

    Raises:
        DataError: the batch does not have the field.
    """
    if label not in batch:
        raise DataError(f"objective {part} reads field {label!r}; the batch has {', '.join(batch)}")
    return batch[label]
