"""Data in memory or in memory-mapped files: one tensor per field, and a batch is one look-up per field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.checks import check_layout, check_mask, check_values
from reprkit.data.collation import to_index
from reprkit.data.signature import Signature
from reprkit.errors import DataError


class Tensors(Dataset):
    """Data set of tensors (n ...), one per field; the base class for data that fits into memory.

    Values may be stored in a narrower type than that of a batch (uint8 pixels, int16 symbols): batches are
    converted, real fields to float32 and symbols to int64.

    Args:
        values: field -> (n ...), and ``NAME_mask`` Bool (n t) where lengths vary.
        signature: the fields.
        divisors: field -> divisor of its stored values, such as 255 for pixels.
        name: short name for reports.
        check: whether to check all values now; otherwise only shapes are checked, and values at the first batch.

    Raises:
        DataError: no examples, fields of different lengths, or values that the signature does not allow.
    """

    def __init__(
        self,
        values: Mapping[str, Tensor],
        signature: Signature,
        *,
        divisors: Mapping[str, float] | None = None,
        name: str = "tensors",
        check: bool = True,
    ) -> None:
        self.signature, self._name = signature, name
        self._divisors = dict(divisors or {})
        self._types = {
            key: torch.int64 if field.discrete else torch.float32 for key, field in signature.items()
        }
        self._values = {key: value.detach().contiguous() for key, value in values.items()}
        missing = [key for key in signature if key not in values]
        if missing or not len(signature):
            raise DataError(
                f"no values for {', '.join(missing) or 'any field'}; given are {', '.join(values) or 'none'}"
            )
        lengths = {key: len(value) if value.ndim else 0 for key, value in self._values.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
            raise DataError(f"the fields have different numbers of examples: {listed}")
        self._size = next(iter(lengths.values()))
        for key in signature:
            self._check(key, check)

    def __len__(self) -> int:
        """Return the number of examples."""
        return self._size

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one example; a negative index counts from the end."""
        position = range(self._size)[index]  # IndexError past the end, as iteration expects
        return {key: value[0] for key, value in self.batch(torch.tensor([position])).items()}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples at ``indices`` (b,); where lengths vary, padded to the longest of the whole data set."""
        index = to_index(indices)
        return {key: self._select(key, value, index) for key, value in self._values.items()}

    def label_values(self, field: str) -> Int[Tensor, " n"]:
        """Return a label field of all examples (n,)."""
        return self._to_batch_dtype(field, self._values[field])

    def lengths(self) -> Mapping[str, Int[Tensor, " n"]]:
        """Return the lengths of the fields that vary, up to the last valid step of their masks."""
        varying = self.signature.varying_fields()
        return {key: _lengths_from_mask(self._values[f"{key}_mask"]) for key in varying}

    @property
    def name(self) -> str:
        """Short name for reports."""
        return self._name

    def _select(self, key: str, value: Tensor, index: Tensor) -> Tensor:
        if value.device != index.device:
            index = index.to(value.device)
        return self._to_batch_dtype(key, value.index_select(0, index))

    def _to_batch_dtype(self, key: str, value: Tensor) -> Tensor:
        value = value.to(self._types.get(key, value.dtype))
        return value / self._divisors[key] if key in self._divisors else value

    def _check(self, key: str, values: bool) -> None:
        field, stored, mask = self.signature[key], self._values[key], self._values.get(f"{key}_mask")
        if not self._size:
            raise DataError(f"the data set is empty: field {key!r} has shape {tuple(stored.shape)}")
        check_layout(key, field, self._to_batch_dtype(key, stored[:1]))
        if None in field.shape and mask is None:
            raise DataError(f"field {key!r} has a varying length, so it needs {key + '_mask'!r}: Bool (n t)")
        if mask is not None:
            check_mask(key, stored, mask)
        if not values:
            return
        rows = max(1, (1 << 24) // max(1, stored[0].numel()))
        for first in range(0, self._size, rows):
            part = self._to_batch_dtype(key, stored[first : first + rows])
            cover = None if mask is None else mask[first : first + rows]
            check_values(key, field, part, mask=cover, whole="the data set", start=first)


def _lengths_from_mask(mask: Tensor) -> Tensor:
    return mask.shape[1] - mask.flip(1).to(torch.uint8).argmax(1)
