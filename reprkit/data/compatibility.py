"""Whether a data set fits a model or another data set: same scale, symbols and columns, and classes matched by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.collation import to_index
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError


def require_same_fields(data: Dataset, learned: Signature | None) -> None:
    """Check that the fields of a data set mean what the fields of the same names meant where a model learned.

    Shapes are checked with each batch.  Here: the range, the number of symbols, and the columns of a table with their classes.

    Raises:
        DataError: a field differs; the message says how.
    """
    for name, field in data.signature.items():
        if (
            learned is None
            or name not in learned
            or field.kind == "label"
            or learned[name].kind != field.kind
        ):
            continue
        difference = _difference(field, learned[name])
        if difference:
            raise DataError(f"field {name!r} of {data.name} is not what the model learned: {difference}")


def _difference(field: Field, learned: Field) -> str:
    """Return how a field differs from the learned one; "" where it does not."""
    if field.range and learned.range and field.range != learned.range:
        return (
            f"its range is {field.range}, the model's is {learned.range}\n"
            "  rescale the data, or declare its range where it was declared wrongly (arrays: ranges={...})"
        )
    if field.discrete and field.vocab and learned.vocab and field.vocab > learned.vocab:
        return f"it has {field.vocab} symbols, the model knows {learned.vocab}"
    if not field.columns or not learned.columns:
        return ""
    names, known = ([column.name for column in each.columns] for each in (field, learned))
    if names != known:
        return (
            f"its columns are {', '.join(names)}; the model's are {', '.join(known)}\n  "
            "read the file with the learned columns: rk.data.Table(path, like=train)"
        )
    for column, other in zip(field.columns, learned.columns, strict=True):
        if (column.kind, column.classes, column.unit) != (other.kind, other.classes, other.unit):
            return (
                f"column {column.name!r} is a {column.kind} {list(column.classes) or column.unit}, the model's is a {other.kind} "
                f"{list(other.classes) or other.unit}\n  read the file with the learned columns: rk.data.Table(path, like=train)"
            )
    return ""


def match_classes(data: Dataset, reference: Dataset) -> Dataset:
    """Return the data set with its labels numbered as the reference numbers the same names.

    Where one of both states no names (``facts["classes"]``), labels stay as they are.

    Raises:
        DataError: a class whose name the reference does not have.
    """
    names, known = (list(each.facts.get("classes", ())) for each in (data, reference))
    if not names or not known or names == known or "label" not in data.signature:
        return data
    unknown = [name for name in names if name not in known]
    if unknown:
        raise DataError(
            f"{data.name} has the class{'es' if len(unknown) > 1 else ''} {', '.join(map(repr, unknown[:5]))}, and "
            f"{reference.name} does not: {', '.join(map(repr, known[:10]))}{' ...' if len(known) > 10 else ''}"
        )
    return Relabeled(data, [known.index(name) for name in names], known)


class Relabeled(Dataset):
    """A data set with its classes renumbered.

    Args:
        data: has the field ``label``.
        numbers: old number -> new number.
        classes: names of the new classes, in order.
    """

    def __init__(self, data: Dataset, numbers: list[int], classes: list[Any]) -> None:
        self._data, self._numbers = data, torch.tensor(numbers)
        field = Field(kind="label", shape=(), vocab=len(classes))
        self.signature = Signature({**data.signature, "label": field})
        self.reference, self.facts = data.reference, {**data.facts, "classes": list(classes)}

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one example."""
        example = self._data[index]
        return {**example, "label": self._numbers[example["label"]]}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples at ``indices`` (b,)."""
        batch = self._data.batch(to_index(indices))
        return {**batch, "label": self._numbers[batch["label"].cpu()].to(batch["label"].device)}

    def identities(self) -> Sequence[str] | None:
        """Return what each example is."""
        return self._data.identities()

    def split_level(self) -> int:
        """Return how many splits lie between the whole data set and this one."""
        return self._data.split_level()

    def lengths(self) -> Mapping[str, Int[Tensor, " n"]] | None:
        """Return the lengths of the examples."""
        return self._data.lengths()

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._data.name
