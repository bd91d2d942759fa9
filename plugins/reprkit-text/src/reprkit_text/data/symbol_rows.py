"""Data sets whose examples are rows of symbols."""

from __future__ import annotations

from collections.abc import Iterable

from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset
from reprkit.data.collation import to_index
from reprkit_text.data.symbols import Symbols


class SymbolRows(Dataset):
    """A data set of one field ``x``, tokens (n,): rows of symbols, padded where the field's length varies.

    A subclass sets ``_symbols`` and ``signature``.
    """

    _symbols: Symbols

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._symbols)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one row; a negative index counts from the end."""
        return {"x": self._symbols[range(len(self))[index]]}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the rows at indices (b,); rows of varying length are padded, with mask ``x_mask``."""
        x, mask = self._symbols.pad_batch(to_index(indices))
        return {"x": x, "x_mask": mask} if self._varies() else {"x": x}

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Return the number of symbols of every row; none where all rows have one length."""
        return {"x": self._symbols.lengths} if self._varies() else {}

    def _varies(self) -> bool:
        return self.signature["x"].shape[0] is None
