"""Whole numbers whose tables are chosen by the sizes of those that were read before, and are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le, Lt
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from reprkit import Code, Features
from reprkit.errors import CompressionError
from reprkit.interfaces import require
from reprkit.latents.rounded import SHARPNESS, Rounded
from reprkit.registry.constraints import CountOrZero, NonNegative, Width
from reprkit_compress.latents.context_coder import (
    CONTEXTS,
    ESCAPE,
    GROUPS,
    HALF,
    ContextCoder,
    Integers,
    fit_tables,
    table_of,
)
from reprkit_compress.latents.map_layout import map_shape


class ContextTables(Rounded):
    """Latent ``rounded`` whose numbers are written under tables for their surroundings: context modeling as codecs do it.

    ::

        channel by channel, from coarse places to fine ones:
        table = f(channel, sizes of earlier channels here and around, sizes of known neighbors of this channel)

    Training is that of ``rounded``: the price is a learned density of each channel, an upper bound.  ``model.fit_frequencies``
    counts the numbers in all contexts and shares 64 tables among them, each context taking the one that codes it in the fewest
    bits. Contexts and tables are whole numbers, so a string is exact on every machine, and neither batch nor threads change it.

    Tokens lie on ``grid`` (rows, columns), others in one row.  Channels are best ordered from large to small, as encoder ``cosine``
    orders them.  The first ``predicted`` of them are written as differences from the mean of their known neighbors.

    Args:
        dim: width of the code.
        limit: the largest whole number.
        predicted: number of leading channels that are written as differences.
        deadzone: by how much a value moves towards 0 before it is rounded, in evaluation: fewer bits for a slightly larger error.
        beta: weight of loss "kl".
        warmup: optimizer steps over which loss "kl" grows linearly from 0 to its full size.

    Raises:
        PartArgumentError: an argument is out of range.
    """

    context_group: Tensor
    context_tables: Tensor

    def __init__(
        self,
        dim: Width = 192,
        *,
        limit: Annotated[int, Ge(1), Le(2**12)] = 255,
        predicted: CountOrZero = 3,
        deadzone: Annotated[float, Ge(0), Lt(0.5)] = 0.12,
        beta: NonNegative = 1.0,
        warmup: CountOrZero = 0,
    ) -> None:
        super().__init__(dim, limit=limit, beta=beta, warmup=warmup)
        require(predicted <= dim, f"predicted={predicted} channels of dim={dim}")
        self.predicted, self.deadzone = predicted, float(deadzone)
        self.symbol_frequencies = None  # tables are those of contexts
        self.register_buffer("context_group", torch.zeros(dim, CONTEXTS, dtype=torch.int32))
        self.register_buffer("context_tables", torch.zeros(GROUPS, ESCAPE + 1, dtype=torch.int32))

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n dim)."""
        if not self.training and self.deadzone:
            x, step = features.x, self.deadzone / SHARPNESS
            features = replace(features, x=x - x.clamp(-step, step))
        return super().forward(features)

    @property
    def has_tables(self) -> bool:
        """Whether the tables were counted."""
        return bool(self.context_tables.any())

    def zero_counts(self) -> Int[Tensor, "d c m"]:
        """Return counts of no symbols: of each size in each context of each channel, the last one for escapes."""
        return torch.zeros(self.out_dim, CONTEXTS, HALF + 2, dtype=torch.int64)

    def count_symbols(self, code: Code, counts: Int[Tensor, "d c m"]) -> None:
        """Add the sizes of the numbers of all valid tokens in their contexts."""
        valid = _valid(code)
        self._coder().count(self._numbers(code, valid), valid, counts.numpy())

    def table_bits(self, counts: Int[Tensor, "d c m"]) -> float:
        """Return the bits of all counted numbers as ``write`` codes them."""
        return self._coder().bits(counts.numpy())

    @torch.no_grad()
    def set_frequencies(self, counts: Int[Tensor, "d c m"]) -> None:
        """Set 64 tables, and the table of each context, from the counts."""
        groups, tables = fit_tables(counts.numpy())
        self.context_tables.copy_(torch.from_numpy(tables))
        self.context_group.copy_(torch.from_numpy(groups))

    @torch.no_grad()
    def write(self, code: Code) -> list[bytes]:
        """Encode the numbers of each example's tokens as bytes."""
        valid = _valid(code)
        return self._coder().write(self._numbers(code, valid), valid)

    @torch.no_grad()
    def read(self, strings: Sequence[bytes], like: Code) -> Code:
        """Invert ``write``; see ``Latent.read``.

        Raises:
            CompressionError: a string does not end where its symbols end, or holds a number beyond the limit.
        """
        coder, valid = self._coder(), _valid(like)
        indices = torch.full(like.z.shape, self.limit, dtype=torch.int64)
        for row, string in enumerate(strings):
            own = coder.read(string, valid[row : row + 1])
            if own is None:
                raise CompressionError(
                    f"string {row} does not end where its symbols end, or was written under other tables"
                )
            indices[row] = torch.from_numpy(own.reshape(self.out_dim, -1).T + self.limit)
        indices = indices.to(like.z.device)
        return Code.of(like, z=self.embed(indices).to(like.z), indices=indices)

    def _numbers(self, code: Code, valid: NDArray[np.bool_]) -> Integers:
        """Return the numbers (d b h w), 0 at padding."""
        assert code.indices is not None
        own = np.moveaxis(code.indices.cpu().numpy(), 2, 0) - self.limit
        return own.reshape(-1, *valid.shape) * valid

    def _coder(self) -> ContextCoder:
        groups = self.context_group.cpu().long().numpy()
        if self.has_tables:
            tables = self.context_tables.cpu().long().numpy()
        else:
            tables = np.stack([table_of(np.zeros(HALF + 2), GROUPS)] * GROUPS)
        return ContextCoder(self.limit, self.predicted, groups, tables)


def _valid(code: Code) -> NDArray[np.bool_]:
    """Return which places of the tokens' grid, or of one row, are valid (b h w)."""
    mask = np.ones(code.z.shape[:2], bool) if code.mask is None else code.mask.cpu().numpy()
    return mask.reshape(len(mask), *map_shape(code))
