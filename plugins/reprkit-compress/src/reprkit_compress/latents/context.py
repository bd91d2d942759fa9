"""Whole numbers whose tables depend on the left and the upper neighbor: a causal price of two neighbors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from reprkit import Code, Features
from reprkit.errors import CompressionError
from reprkit.latents.entropy_model import LEAST, FactorizedEntropy
from reprkit.latents.functional import (
    check_indices,
    round_codes,
    straight_through,
    sum_per_example,
    zero_padding,
)
from reprkit.latents.rounded import SHARPNESS
from reprkit.latents.variational import Variational
from reprkit.registry.constraints import CountOrZero, NonNegative, Width
from reprkit.utils.symbol_coder import to_frequencies
from reprkit.utils.symbol_stack import open_stack
from reprkit_compress.latents.map_layout import MapLayout

# Classes of the neighbors' sum, which says where a number is likely, and of their difference, which says how surely.
_SUMS = torch.tensor([-15, -8, -4, -2, -1, 0, 1, 2, 3, 5, 9, 16])
_DIFFERENCES = torch.tensor([2, 5])
CONTEXTS = (len(_SUMS) + 1) * (len(_DIFFERENCES) + 1)
_SHARE = 8.0  # numbers as many as which a wider context counts, where a narrower one was rarely seen


class Context(Variational):
    """Whole numbers, each under a table that its left and upper neighbor in the same channel choose.

    ::

        x (b n dim) ──► y = 4x, within ±limit ──► z = y + uniform noise in ±1/2, in training
                                                  z = y rounded, in evaluation;  index = z + limit
        loss "kl": -log p(z | left, upper), nats an example

    As latent ``rounded``, with the neighbors' values as a condition (an autoregressive prior as of Minnen et al. 2018, arXiv
    1809.02736, but of two neighbors and without a network, so that a picture is read in a second).  In training p is the learned
    density of each dimension (Ballé et al. 2018, appendix 6.1) around a weighted sum of the neighbors, with a scale that grows with
    their size.  Bytes are written under integer tables, one for each dimension and each of 39 classes of the
    neighbors' sum and difference, which ``model.fit_frequencies`` counts; where they are set, ``Code.bits`` is the size of these
    bytes.  Before, symbols cost log2 of the vocabulary.  Tokens without a grid of rows and columns have a left neighbor only.

    Args:
        dim: width of the code.
        limit: the largest whole number; each dimension takes ``2 * limit + 1`` values.
        beta: weight of loss "kl": above 1 for fewer bits, below for a smaller error.
        warmup: optimizer steps over which loss "kl" grows linearly from 0 to its full size.

    Raises:
        PartArgumentError: an argument is out of range.
    """

    collapse_floor = 0.0
    tables: Tensor

    def __init__(
        self,
        dim: Width = 64,
        *,
        limit: Annotated[int, Ge(1), Le(255)] = 31,
        beta: NonNegative = 1.0,
        warmup: CountOrZero = 0,
    ) -> None:
        values = 2 * limit + 1
        super().__init__(in_dim=dim, out_dim=dim, vocab=(values,) * dim, beta=beta, warmup=warmup)
        self.symbol_frequencies = None  # a table for each context takes its place
        self.limit, self.values = limit, values
        self.entropy = FactorizedEntropy(dim)
        self.weights_of_neighbors = nn.Parameter(torch.zeros(2, dim))
        self.growth = nn.Parameter(torch.zeros(dim))
        self.register_buffer("tables", torch.zeros(dim, CONTEXTS, values, dtype=torch.int32))

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n dim)."""
        y = SHARPNESS * zero_padding(features)
        z, rounded = round_codes(y, self.limit, noise=self.training)
        layout = MapLayout(features)
        nats = sum_per_example(self._nats(z, layout), features.mask)
        if not self.training and self.has_tables:
            with torch.no_grad():
                share = self._share(rounded.long() + self.limit, layout).double()
                bits = sum_per_example(16 - share.log2(), features.mask)
            nats = straight_through(bits.to(nats) * math.log(2), nats)
        dtype = features.x.dtype
        return Code.of(
            features,
            z=z.to(dtype),
            mean=rounded.to(dtype) if self.training else None,
            indices=rounded.detach().long() + self.limit,
            bits=nats.detach() / math.log(2),
            losses={"kl": self.apply_warmup(nats.mean())},
            metrics={"kl": nats.mean().detach()},
        )

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """Return the whole numbers of the indices (b n dim).

        Raises:
            PartArgumentError: indices have another shape, or lie outside of [0, 2 * limit].
        """
        check_indices(indices, self.out_dim, self.values)
        return (indices - self.limit).to(torch.float32)

    def _nats(self, z: Float[Tensor, "b n d"], layout: MapLayout) -> Float[Tensor, "b n d"]:
        """Return -log p of each number given its neighbors, with gradient."""
        kept = z if layout.mask is None else z * layout.mask.unsqueeze(-1)
        left, upper = _neighbors(kept, layout)
        mean = left * self.weights_of_neighbors[0] + upper * self.weights_of_neighbors[1]
        size = (1 + left.abs() + upper.abs()).log()
        rate = torch.exp(-self.growth * size)
        lower, higher = ((z - mean + side) * rate for side in (-0.5, 0.5))
        x = torch.cat([lower.flatten(0, 1).T, higher.flatten(0, 1).T], -1).unsqueeze(1)
        low, high = self.entropy.logits(x.to(self.growth.dtype)).chunk(2, -1)
        # The tail where the difference of sigmoids keeps its digits.
        sign = -torch.sign(low + high).detach()
        mass = (torch.sigmoid(sign * high) - torch.sigmoid(sign * low)).abs()
        mass = mass + (mass.clamp(min=LEAST) - mass).detach()  # the bound passes gradients on
        return -mass.log().squeeze(1).T.reshape(z.shape)

    # ------------------------------------------------------------------ tables and bytes

    @property
    def has_tables(self) -> bool:
        """Whether the tables are set."""
        return bool(self.tables.any())

    def zero_counts(self) -> Int[Tensor, "d k v"]:
        """Return counts of no symbols: of each dimension, context and value."""
        return torch.zeros(self.tables.shape, dtype=torch.int64)

    def count_symbols(self, code: Code, counts: Int[Tensor, "d k v"]) -> None:
        """Add the symbols of the valid tokens, by their contexts."""
        assert code.indices is not None
        layout = MapLayout(code)
        valid = slice(None) if layout.mask is None else layout.mask
        rows = self._rows(code.indices, layout)[valid]
        places = (rows * self.values + code.indices[valid]).flatten().cpu()
        counts += places.bincount(minlength=counts.numel()).view(counts.shape)

    def table_bits(self, counts: Int[Tensor, "d k v"]) -> float:
        """Return the bits of all counted symbols as ``write`` codes them."""
        return float((counts * (16 - torch.from_numpy(self._numpy_tables()).double().log2())).sum())

    @torch.no_grad()
    def set_frequencies(self, counts: Int[Tensor, "d k v"]) -> None:
        """Set the tables from counts; rare contexts lean on those of the same sum, and these on the whole dimension."""
        own = counts.cpu().double().unflatten(1, (len(_SUMS) + 1, len(_DIFFERENCES) + 1))
        whole = own.sum((1, 2), keepdim=True) + 1 / self.values
        wide = own.sum(2, keepdim=True) + _SHARE * whole / whole.sum(-1, keepdim=True)
        mixed = own + _SHARE * wide / wide.sum(-1, keepdim=True)
        scaled = (mixed / mixed.sum(-1, keepdim=True) * 2**30).long().flatten(0, 2)
        tables = np.stack([to_frequencies(row) for row in scaled.numpy()])
        self.tables.copy_(torch.from_numpy(tables).view(self.tables.shape))

    @torch.no_grad()
    def write(self, code: Code) -> list[bytes]:
        """Encode the numbers of each example's valid tokens as bytes."""
        assert code.indices is not None
        layout, tables = MapLayout(code), self._numpy_tables().reshape(-1, self.values)
        indices, rows = (each.cpu().numpy() for each in (code.indices, self._rows(code.indices, layout)))
        strings = []
        for row in range(len(indices)):
            order = np.concatenate(_diagonals(layout, row))
            stack = open_stack()
            stack.push_each(indices[row, order].flatten(), tables, rows[row, order].flatten())
            strings.append(stack.to_bytes())
        return strings

    @torch.no_grad()
    def read(self, strings: Sequence[bytes], like: Code) -> Code:
        """Invert ``write``: all numbers of a diagonal at once, since their neighbors lie on the one before.

        Raises:
            CompressionError: a string does not end where its symbols end.
        """
        layout, tables = MapLayout(like), self._numpy_tables().reshape(-1, self.values)
        b, n = like.z.shape[:2]
        width = layout.size[1]
        found = np.zeros((b, n, self.out_dim), np.int64)
        base = np.arange(self.out_dim) * CONTEXTS
        for row, string in enumerate(strings):
            stack = open_stack(string)
            # One more row and column of zeros, where there are no neighbors.
            y = np.zeros((n + width + 1, self.out_dim), np.int64)
            for places in _diagonals(layout, row):
                left = np.where((places % width > 0)[:, None], y[places - 1], 0)
                upper = np.where((places >= width)[:, None], y[places - width], 0)
                rows = base + _numpy_contexts(left, upper)
                symbols = stack.pop_each(tables, rows.flatten()).reshape(rows.shape)
                y[places] = symbols - self.limit
            if not stack.empty():
                raise CompressionError(
                    f"string {row} does not end where its symbols end, or was written under other tables"
                )
            found[row] = y[:n]
        indices = torch.from_numpy(found + self.limit).to(like.z.device)
        return Code.of(like, z=self.embed(indices).to(like.z), indices=indices)

    def _rows(self, indices: Int[Tensor, "b n d"], layout: MapLayout) -> Int[Tensor, "b n d"]:
        """Return the row of each number's table, among those of all dimensions."""
        y = indices - self.limit
        if layout.mask is not None:
            y = y * layout.mask.unsqueeze(-1)
        own = torch.arange(self.out_dim, device=y.device) * CONTEXTS
        return own + contexts(*_neighbors(y, layout))

    def _share(self, indices: Int[Tensor, "b n d"], layout: MapLayout) -> Int[Tensor, "b n d"]:
        return self.tables.flatten(0, 1)[self._rows(indices, layout), indices]

    def _numpy_tables(self) -> NDArray[np.int64]:
        if self.has_tables:
            return self.tables.cpu().long().numpy()
        uniform = to_frequencies(np.zeros(self.values, np.int64))
        return np.broadcast_to(uniform, tuple(self.tables.shape)).copy()


def contexts(left: Int[Tensor, "*n"], upper: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """Return the class of two neighbors, from 0 to 38: 13 classes of their sum, times 3 of their difference."""
    total = torch.bucketize(left + upper, _SUMS.to(left.device), right=True)
    difference = torch.bucketize((left - upper).abs(), _DIFFERENCES.to(left.device), right=True)
    return total * (len(_DIFFERENCES) + 1) + difference


def _numpy_contexts(left: NDArray[np.int64], upper: NDArray[np.int64]) -> NDArray[np.int64]:
    return contexts(torch.from_numpy(left), torch.from_numpy(upper)).numpy()


def _neighbors(y: Tensor, layout: MapLayout) -> tuple[Tensor, Tensor]:
    """Return the left and the upper neighbor of each token (b n d); 0 outside of the map."""
    planes = y.unflatten(1, layout.size)
    left = F.pad(planes[:, :, :-1], (0, 0, 1, 0))
    upper = F.pad(planes[:, :-1], (0, 0, 0, 0, 1, 0))
    return left.flatten(1, 2), upper.flatten(1, 2)


def _diagonals(layout: MapLayout, row: int) -> list[NDArray[np.int64]]:
    """Return the valid tokens of each diagonal, from the upper left corner on."""
    places = layout.rows(row)[0].numpy()
    number = places // layout.size[1] + places % layout.size[1]
    order = np.argsort(number, kind="stable")
    return np.split(places[order], np.flatnonzero(np.diff(number[order])) + 1)
