"""The mean and scale hyperprior: whole numbers whose tables a second, smaller code chooses."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le, MaxLen, MinLen
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit import Code, Features
from reprkit.errors import CompressionError
from reprkit.interfaces import require
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
from reprkit.registry.constraints import CountOrZero, Width
from reprkit.utils.symbol_coder import to_frequencies
from reprkit.utils.symbol_stack import SymbolStack, open_stack
from reprkit_compress.latents.gains import STEPS, Gains
from reprkit_compress.latents.grouped_symbols import Integers, TableOf, pop_grouped, push_grouped
from reprkit_compress.latents.map_layout import MapLayout
from reprkit_compress.latents.scale_tables import (
    ESCAPE,
    FRACTIONS,
    HALF,
    SCALES,
    compact,
    gaussian_tables,
    half_width,
    scale_of,
)
from reprkit_compress.layers.integer import SUM, IntegerSynthesis

_SIDE = 31  # the largest whole number of the side code
_START = 29.0  # index of the scale where the synthesis gives 0: about 2


class Hyperprior(Variational):
    """Whole numbers y under Gaussians whose means and scales are computed from a side code z (Ballé et al. 2018, arXiv 1802.01436).

    ::

        x (b n dim) ──► y = 4x times the gain ──► whole numbers ──► times the inverse gain: the code
                                      │                 ▲ table of each: mean and scale
                        analysis ◄────┘                 │
                            └──► z, whole numbers ──► integer synthesis
        loss "kl": beta (-log p(y | z) - log p(z)), nats an example

    Means follow Minnen et al. 2018 (arXiv 1809.02736).  Where tokens have a grid of rows and columns z has a quarter of each;
    other tokens are one row.  In training uniform noise takes the place of rounding.  In evaluation ``Code.bits`` is the size of
    the bytes that ``write`` gives, but for a few bytes at their end.

    A string is exact on every machine: the synthesis is an integer network (Ballé, Johnston and Minnen 2019), its results
    choose one of 512 integer tables of the checkpoint, and the tables of z are set once, by ``set_frequencies``
    (``model.fit_frequencies``), from its learned density; before, each value of z costs 6 bits.

    With several ``betas`` one network has as many rates: a gain vector for each multiplies the code before it is rounded.  In
    training each example draws one of them, and its rate weighs ``beta``; in evaluation ``rate`` chooses: 0 is the first beta,
    and 1.5 lies between the second and the third.  The chosen level is the last index slot, and is written with the code.

    Args:
        dim: width of the code.
        limit: the largest whole number.
        side: width of the side code.
        hidden: width of the networks from y to z and back.
        betas: weights of the rate, one for each: above 1 for fewer bits, below for a smaller error.
        warmup: optimizer steps over which loss "kl" grows linearly from 0 to its full size.

    Attributes:
        rate: the rate of codes in evaluation, from 0 to the number of betas - 1, in steps of 1/8; at first that of the beta nearest
            to 1.

    Raises:
        PartArgumentError: an argument is out of range.
    """

    collapse_floor = 0.0
    gaussian: Tensor
    side_tables: Tensor
    half_widths: Tensor

    def __init__(
        self,
        dim: Width = 128,
        *,
        limit: Annotated[int, Ge(1), Le(2**12)] = 127,
        side: Annotated[int, Ge(1), Le(2**10)] = 32,
        hidden: Annotated[int, Ge(1), Le(2**10)] = 64,
        betas: Annotated[tuple[Annotated[float, Ge(1e-6), Le(1e6)], ...], MinLen(1), MaxLen(64)] = (1.0,),
        warmup: CountOrZero = 0,
    ) -> None:
        self.values = 2 * limit + 1
        levels = () if len(betas) == 1 else (STEPS * (len(betas) - 1) + 1,)
        super().__init__(
            in_dim=dim, out_dim=dim, vocab=(self.values,) * dim + levels, beta=1.0, warmup=warmup
        )
        self.symbol_frequencies = None  # each symbol is coded under a table that the side code chooses
        self.limit = limit
        self.gains = Gains(dim, betas) if levels else None
        self.analysis = nn.Sequential(
            nn.Conv2d(dim, hidden, 3, padding=1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(hidden, hidden, 4, stride=2, padding=1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(hidden, side, 4, stride=2, padding=1),
        )
        self.synthesis = IntegerSynthesis(side, hidden, 2 * dim)
        self.entropy = FactorizedEntropy(side)
        self.register_buffer("gaussian", gaussian_tables())
        self.register_buffer("side_tables", torch.zeros(side, 2 * _SIDE + 1, dtype=torch.int32))
        self.register_buffer(
            "half_widths", torch.tensor([half_width(k) for k in range(SCALES)]), persistent=False
        )
        self._level = 0 if self.gains is None else self.gains.default

    @property
    def rate(self) -> float:
        """The rate of codes in evaluation."""
        return self._level / STEPS

    @rate.setter
    def rate(self, rate: float) -> None:
        if self.gains is None:
            require(rate == 0, f"rate is {rate}, and the latent has one rate: give it several betas")
            return
        self._level = self.gains.to_level(rate)

    @property
    def rates(self) -> tuple[float, ...]:
        """The rates that it was trained for; () for one."""
        return () if self.gains is None else tuple(float(each) for each in range(len(self.gains.betas)))

    # ------------------------------------------------------------------ the code and its price

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n dim)."""
        y, level = SHARPNESS * zero_padding(features), None
        if self.gains is not None:
            level = self.gains.draw(y) if self.training else self._levels(y)
            y = y * self.gains.gain(level).unsqueeze(1).to(y.dtype)
        noisy, rounded = round_codes(y, self.limit, noise=self.training)
        layout = MapLayout(features)
        z = self._side(noisy, layout, noise=self.training)
        nats = self._nats(noisy, z, layout)
        if not self.training and self.has_tables:
            with torch.no_grad():
                bits = self._table_bits(rounded, z, layout)
            nats = straight_through(bits.to(nats) * math.log(2), nats)
        weighted = nats if level is None else nats * self._gains().weight(level)
        dtype, indices = features.x.dtype, rounded.detach().long() + self.limit
        if level is not None:
            indices = torch.cat([indices, level[:, None, None].expand(*indices.shape[:2], 1)], -1)
        return Code.of(
            features,
            z=self._scaled(noisy, level).to(dtype),
            mean=self._scaled(rounded, level).to(dtype) if self.training else None,
            indices=indices,
            bits=nats.detach() / math.log(2),
            losses={"kl": self.apply_warmup(weighted.mean())},
            metrics={"kl": nats.mean().detach()},
        )

    def embed(self, indices: Int[Tensor, "b n q"]) -> Float[Tensor, "b n d"]:
        """Return the whole numbers of the indices (b n dim), times the inverse gain where there are several rates.

        Raises:
            PartArgumentError: indices have another shape, or lie outside of their range.
        """
        vocab = self.vocab or ()
        check_indices(indices, len(vocab), max(vocab))
        y = (indices[..., : self.out_dim] - self.limit).to(torch.float32)
        if self.gains is None:
            return y
        check_indices(indices[..., -1:], 1, self.gains.levels)
        return (y * self.gains.inverse(indices[..., -1])).to(torch.float32)

    def _gains(self) -> Gains:
        assert self.gains is not None
        return self.gains

    def _levels(self, like: Tensor) -> Int[Tensor, " b"]:
        return torch.full(like.shape[:1], self._level, dtype=torch.int64, device=like.device)

    def _scaled(self, y: Float[Tensor, "b n d"], level: Int[Tensor, " b"] | None) -> Float[Tensor, "b n d"]:
        return y if level is None else y * self._gains().inverse(level.unsqueeze(1))

    def _side(self, y: Float[Tensor, "b n d"], layout: MapLayout, *, noise: bool) -> Float[Tensor, "b s h w"]:
        """Return the side code of y: with noise, or whole numbers; 0 at cells without a valid token."""
        side = self.analysis(layout.to_map(y))
        z, _ = round_codes(side, _SIDE, noise=noise)
        return z if layout.valid is None else z * layout.valid

    def _nats(self, y: Tensor, z: Tensor, layout: MapLayout) -> Float[Tensor, " b"]:
        """Return -log p(y | z) - log p(z) of each example, with gradient, under the densities."""
        index, mean = self._gaussians(z, layout)
        index = straight_through(index.detach().clamp(0, SCALES - 1), index)
        scale, distance = scale_of(index).to(y.dtype), (y - mean.to(y.dtype)).abs()
        mass = torch.special.ndtr((0.5 - distance) / scale) - torch.special.ndtr((-0.5 - distance) / scale)
        mass = mass + (mass.clamp(min=LEAST) - mass).detach()  # the bound passes gradients on
        side = -self.entropy.log_mass(z.flatten(2).mT)
        cells = None if layout.valid is None else layout.valid.flatten(1)
        return sum_per_example(-mass.log(), layout.mask) + sum_per_example(side, cells)

    def _gaussians(
        self, z: Tensor, layout: MapLayout
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b n d"]]:
        """Return the scale's index and the mean of each number, exact to their last digit in evaluation."""
        scale, mean = layout.to_tokens(self.synthesis(z, layout.valid)).chunk(2, -1)
        return _START + scale * (8 / SUM), mean * (SHARPNESS / SUM)

    def _tables(self, z: Tensor, layout: MapLayout) -> tuple[Int[Tensor, "b n d"], Int[Tensor, "b n d"]]:
        """Return the number of the table of each number, and the whole part of its mean; whole numbers from z on."""
        index, mean = self._gaussians(z, layout)
        scale = (index + 0.5).floor().clamp(0, SCALES - 1).long()
        parts = (mean * FRACTIONS + 0.5).floor().clamp(-FRACTIONS * self.limit, FRACTIONS * self.limit).long()
        center = torch.div(parts + FRACTIONS // 2, FRACTIONS, rounding_mode="floor")
        return scale * FRACTIONS + parts - FRACTIONS * center + FRACTIONS // 2, center

    def _columns(self, y: Tensor, table: Tensor, center: Tensor) -> Int[Tensor, "b n d"]:
        """Return the column of each number in its table."""
        difference = y.detach().long() - center
        outside = difference.abs() > self.half_widths[torch.div(table, FRACTIONS, rounding_mode="floor")]
        return torch.where(outside, ESCAPE, difference + HALF)

    def _table_bits(self, y: Tensor, z: Tensor, layout: MapLayout) -> Float[Tensor, " b"]:
        """Return the bits of each example under the integer tables."""
        table, center = self._tables(z, layout)
        column = self._columns(y, table, center)
        bits = 16 - self.gaussian[table, column].double().log2() + (column == ESCAPE) * math.log2(self.values)
        numbers = z.flatten(2).mT.long() + _SIDE  # (b m s)
        own = self.side_tables.long()[torch.arange(len(self.side_tables), device=z.device), numbers]
        cells = None if layout.valid is None else layout.valid.flatten(1)
        level = 0.0 if self.gains is None else math.log2(self.gains.levels)
        return sum_per_example(bits, layout.mask) + sum_per_example(16 - own.double().log2(), cells) + level

    # ------------------------------------------------------------------ tables and bytes

    @property
    def has_tables(self) -> bool:
        """Whether the tables of the side code are set."""
        return bool(self.side_tables.any())

    def zero_counts(self) -> Int[Tensor, " c"]:
        """Return counts of no symbols: columns of all tables, values of the side code, and the number of examples."""
        return torch.zeros(self.gaussian.numel() + self.side_tables.numel() + 1, dtype=torch.int64)

    def count_symbols(self, code: Code, counts: Int[Tensor, " c"]) -> None:
        """Add the symbols of the valid tokens, and those of the side code that ``write`` writes with them."""
        y, z, layout = self._written(code)
        table, center = self._tables(z, layout)
        valid = slice(None) if layout.mask is None else layout.mask
        places = (table * self.gaussian.shape[1] + self._columns(y, table, center))[valid].flatten()
        first, rest = self.gaussian.numel(), self.side_tables.numel()
        counts[:first] += places.cpu().bincount(minlength=first)
        numbers = z.flatten(2).mT.long() + _SIDE
        numbers = numbers + torch.arange(numbers.shape[-1], device=z.device) * self.side_tables.shape[1]
        cells = slice(None) if layout.valid is None else layout.valid.flatten(1)
        counts[first:-1] += numbers[cells].flatten().cpu().bincount(minlength=rest)
        counts[-1] += len(y)

    def table_bits(self, counts: Int[Tensor, " c"]) -> float:
        """Return the bits of all counted symbols as ``write`` codes them."""
        first = self.gaussian.numel()
        own = counts[:first].view(self.gaussian.shape)
        bits = (own * (16 - self.gaussian.cpu().clamp(min=1).double().log2())).sum()
        bits += own[:, ESCAPE].sum() * math.log2(self.values)
        side = torch.from_numpy(np.stack(self._numpy_side_tables())).double().log2()
        bits += (counts[first:-1].view(side.shape) * (16 - side)).sum()
        return float(bits + counts[-1] * (0.0 if self.gains is None else math.log2(self.gains.levels)))

    @torch.no_grad()
    def set_frequencies(self, counts: Int[Tensor, " c"]) -> None:
        """Set the tables of the side code from its learned density, which all rates share; those of y never change."""
        numbers = torch.arange(-_SIDE, _SIDE + 1, device=self.side_tables.device)
        mass = self.entropy.log_mass(numbers.view(-1, 1, 1).expand(-1, 1, len(self.side_tables))).exp()
        for row, shares in enumerate(mass.squeeze(1).T.cpu()):
            frequencies = to_frequencies((shares.double() * 2**30).long().numpy())
            self.side_tables[row] = torch.from_numpy(frequencies).to(self.side_tables)

    @torch.no_grad()
    def write(self, code: Code) -> list[bytes]:
        """Encode the numbers of each example's valid tokens, and its side code, as bytes.

        Raises:
            PartArgumentError: the tokens of an example have several rates.
        """
        y, z, layout = self._written(code)
        table, center = self._tables(z, layout)
        column = self._columns(y, table, center)
        level = None if self.gains is None else self._level_of(code)
        strings = []
        for row in range(len(y)):
            valid, cells = layout.rows(row)
            tables, columns = (each[row][valid].flatten().cpu().numpy() for each in (table, column))
            stack = open_stack()
            escaped = (y[row][valid].flatten().cpu().numpy() + self.limit)[columns == ESCAPE]
            stack.push(escaped.astype(np.int64), _uniform(self.values))
            push_grouped(stack, _compact_columns(columns, tables), tables, self._table_of())
            side = z[row].flatten(1)[:, cells].long().cpu().numpy() + _SIDE
            for numbers, own in reversed(list(zip(side, self._numpy_side_tables(), strict=True))):
                stack.push(numbers, own)
            if level is not None:
                stack.push(np.array([level[row]]), _uniform(self._gains().levels))
            strings.append(stack.to_bytes())
        return strings

    @torch.no_grad()
    def read(self, strings: Sequence[bytes], like: Code) -> Code:
        """Invert ``write``; see ``Latent.read``.

        Raises:
            CompressionError: a string does not end where its symbols end, or holds a number beyond the limit.
        """
        layout = MapLayout(like)
        b, n = like.z.shape[:2]
        indices = torch.full((b, n, len(self.vocab or ())), self.limit, dtype=torch.int64)
        z = torch.zeros(b, len(self.side_tables), *layout.cells, dtype=torch.float32)
        stacks: list[SymbolStack] = [open_stack(string) for string in strings]
        for row, stack in enumerate(stacks):
            if self.gains is not None:
                indices[row, :, -1] = int(stack.pop(1, _uniform(self.gains.levels))[0])
            _, cells = layout.rows(row)
            count = int(torch.ones(math.prod(layout.cells))[cells].sum())
            for channel, own in enumerate(self._numpy_side_tables()):
                z[row, channel].view(-1)[cells] = torch.from_numpy(stack.pop(count, own) - _SIDE).float()
        table, center = (each.cpu() for each in self._tables(z.to(self.gaussian.device), layout))
        for row, stack in enumerate(stacks):
            valid, _ = layout.rows(row)
            tables = table[row][valid].flatten().numpy()
            columns = _full_columns(pop_grouped(stack, tables, self._table_of()), tables)
            y = columns - HALF + center[row][valid].flatten().numpy()
            outside = columns == ESCAPE
            y[outside] = stack.pop(int(outside.sum()), _uniform(self.values)) - self.limit
            if not stack.empty() or (len(y) and np.abs(y).max() > self.limit):
                raise CompressionError(
                    f"string {row} does not end where its symbols end, or was written under other tables"
                )
            indices[row, valid, : self.out_dim] = torch.from_numpy(y + self.limit).view(-1, self.out_dim)
        indices = indices.to(like.z.device)
        return Code.of(like, z=self.embed(indices).to(like.z), indices=indices)

    def _written(self, code: Code) -> tuple[Tensor, Tensor, MapLayout]:
        """Return the numbers of a code, the side code that is written with them, and the layout."""
        assert code.indices is not None
        layout = MapLayout(code)
        y = (code.indices[..., : self.out_dim] - self.limit).to(next(self.analysis.parameters()).dtype)
        y = y if layout.mask is None else y * layout.mask.unsqueeze(-1)
        return y.long(), self._side(y, layout, noise=False).detach(), layout

    def _level_of(self, code: Code) -> list[int]:
        """Return the level of each example."""
        assert code.indices is not None
        level = code.indices[..., -1].cpu()
        mask = torch.ones_like(level, dtype=torch.bool) if code.mask is None else code.mask.cpu()
        found = []
        for row, (numbers, valid) in enumerate(zip(level, mask, strict=True)):
            own = numbers[valid].unique().tolist() or [self._level]
            require(len(own) == 1, f"example {row} has tokens of {len(own)} rates, and a string has one")
            found.append(own[0])
        return found

    def _table_of(self) -> TableOf:
        tables = self.gaussian.cpu().long().numpy()
        return functools.cache(lambda number: compact(tables, number))

    def _numpy_side_tables(self) -> list[Integers]:
        if not self.has_tables:
            return [_uniform(self.side_tables.shape[1])] * len(self.side_tables)
        return list(self.side_tables.cpu().long().numpy())


def _compact_columns(columns: Integers, tables: Integers) -> Integers:
    """Return the columns in the tables without the zeros outside of their half width."""
    half = _HALVES[tables // FRACTIONS]
    return np.where(columns == ESCAPE, 2 * half + 1, columns - HALF + half)


def _full_columns(columns: Integers, tables: Integers) -> Integers:
    """Invert ``_compact_columns``."""
    half = _HALVES[tables // FRACTIONS]
    return np.where(columns == 2 * half + 1, ESCAPE, columns - half + HALF)


_HALVES = np.array([half_width(scale) for scale in range(SCALES)])


def _uniform(entries: int) -> Integers:
    return to_frequencies(np.zeros(entries, np.int64))
