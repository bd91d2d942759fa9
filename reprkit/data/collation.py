"""Collate examples to a batch: stack fields of fixed shape, pad fields of varying length with a mask ``NAME_mask``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.padding import pad
from reprkit.data.signature import Signature
from reprkit.errors import DataError


def collate(items: Sequence[Mapping[str, Tensor]], signature: Signature) -> dict[str, Tensor]:
    """Collate examples to a batch: every field (b ...), and ``NAME_mask`` Bool (b t) for each field of varying length.

    Fields of varying length (None in the signature's shape) are padded with zeros at the end, to the longest of the
    batch.  A mask of a field of fixed shape (missing values of a vector, (d,)) is stacked, as are values that are not in the
    signature.

    Args:
        items: examples; values may be tensors, NumPy arrays or numbers.
        signature: the fields, and which of them vary in length.

    Raises:
        DataError: no examples; an example that lacks a field of the first one; shapes that cannot be stacked.
    """
    if not items:
        raise DataError("a batch needs at least one example; none were given")
    batch: dict[str, Tensor] = {}
    for name in items[0]:
        if name.endswith("_mask") and name.removesuffix("_mask") in signature:
            continue  # handled below, together with its field
        values = _column(items, name)
        if name in signature and None in signature[name].shape:
            batch[name], mask = pad(values, name)
            own = f"{name}_mask"
            batch[own] = pad(_column(items, own), own)[0].bool() if own in items[0] else mask
        else:
            batch[name] = _stack(values, name)
            own = f"{name}_mask"
            if name in signature and own in items[0]:  # missing values of a table's row
                batch[own] = _stack(_column(items, own), own).bool()
    return batch


def to_index(indices: Tensor | Iterable[int]) -> Int[Tensor, " b"]:
    """Convert indices to an int64 tensor (b,)."""
    if isinstance(indices, Tensor):
        return indices if indices.dtype == torch.int64 else indices.long()
    return torch.as_tensor(indices if isinstance(indices, Sequence) else list(indices), dtype=torch.int64)


def _column(items: Sequence[Mapping[str, Tensor]], name: str) -> list[Tensor]:
    values = []
    for index, item in enumerate(items):
        if name not in item:
            raise DataError(f"example {index} of the batch has no field {name!r}; it has {', '.join(item)}")
        values.append(torch.as_tensor(item[name]))
    return values


def _stack(values: list[Tensor], name: str) -> Tensor:
    for index, value in enumerate(values):
        if value.shape != values[0].shape:
            raise DataError(
                f"field {name!r} has shape {tuple(value.shape)} in example {index} of the batch and "
                f"{tuple(values[0].shape)} in example 0\n"
                f"  make the shapes equal, or declare a varying length as None in the signature's shape"
            )
    return torch.stack(values)
