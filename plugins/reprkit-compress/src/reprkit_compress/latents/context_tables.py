"""Whole numbers whose tables are chosen by the sizes of those that were read before, and are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Le
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from reprkit.errors import CompressionError
from reprkit.interfaces import require
from reprkit.latents.rounded import Rounded
from reprkit.registry.constraints import CountOrZero, NonNegative, Width
from reprkit.types import Code
from reprkit.utils.symbol_coder import to_frequencies
from reprkit.utils.symbol_stack import open_stack
from reprkit_compress.latents.grouped_symbols import pop_grouped, push_grouped

Integers = NDArray[np.int64]

_HALF = 24  # the largest number of a table; beyond it the number itself follows an escape
_ESCAPE = 2 * _HALF + 1
_GROUPS = 64  # tables
_LARGEST = 15  # of a size that counts for a context
_EARLIER = np.array([1, 8, 24, 48, 96, 160, 256, 400, 640])  # bounds of the sizes of earlier channels
_AROUND = np.array(
    [1, 3, 5, 9, 15, 25]
)  # bounds of four times the mean size of known neighbors; 0 is for none
_CONTEXTS = (len(_EARLIER) + 1) * (len(_AROUND) + 2)
_STRIDES = (4, 2)


class ContextTables(Rounded):
    """Latent ``rounded`` whose numbers are written under tables for their surroundings: context modeling as codecs do it.

    ::

        channel by channel, from coarse places to fine ones:
        table = f(channel, sizes of earlier channels here and around, sizes of known neighbors of this channel)

    Training is that of ``rounded``: the price is a learned density of each channel, an upper bound.  ``model.fit_frequencies`` counts
    the numbers in all contexts and shares 64 tables among them, each context taking the one that codes it in the fewest bits.
    Contexts and tables are whole numbers, so a string is exact on every machine, and neither batch nor threads change it.

    Tokens lie on ``grid`` (rows, columns), others in one row.  Channels are best ordered from large to small, as encoder ``cosine``
    orders them.  The first ``predicted`` of them are written as differences from the mean of their known neighbors.

    Args:
        dim: width of the code.
        limit: the largest whole number.
        predicted: number of leading channels that are written as differences.
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
        beta: NonNegative = 1.0,
        warmup: CountOrZero = 0,
    ) -> None:
        super().__init__(dim, limit=limit, beta=beta, warmup=warmup)
        require(predicted <= dim, f"predicted={predicted} channels of dim={dim}")
        self.predicted = predicted
        self.symbol_frequencies = None  # tables are those of contexts
        self.register_buffer("context_group", torch.zeros(dim, _CONTEXTS, dtype=torch.int32))
        self.register_buffer("context_tables", torch.zeros(_GROUPS, _ESCAPE + 1, dtype=torch.int32))

    @property
    def has_tables(self) -> bool:
        """Whether the tables were counted."""
        return bool(self.context_tables.any())

    def zero_counts(self) -> Int[Tensor, "d c m"]:
        """Return counts of no symbols: of each size in each context of each channel, the last one for escapes."""
        return torch.zeros(self.out_dim, _CONTEXTS, _HALF + 2, dtype=torch.int64)

    def count_symbols(self, code: Code, counts: Int[Tensor, "d c m"]) -> None:
        """Add the sizes of the numbers of all valid tokens in their contexts."""
        flat = counts.view(self.out_dim, -1).numpy()
        for row in range(len(code.z)):
            own, valid = self._numbers(code, row)

            def add(step: _Step, own: Integers = own, valid: NDArray[np.bool_] = valid) -> Integers:
                values = own[step.channel][step.places]
                size = np.minimum(np.abs(values - step.predicted), _HALF + 1)
                there = valid[step.places]
                place = step.context[there] * (_HALF + 2) + size[there]
                flat[step.channel] += np.bincount(place, minlength=flat.shape[1])
                return values

            self._walk(own.shape[1:], add)

    def table_bits(self, counts: Int[Tensor, "d c m"]) -> float:
        """Return the bits of all counted numbers as ``write`` codes them."""
        bits = _bits(self._tables())[self._groups()]  # (d c m)
        escaped = float(counts[..., -1].sum()) * np.log2(self.values)
        return float((counts.numpy() * bits).sum()) + escaped

    @torch.no_grad()
    def set_frequencies(self, counts: Int[Tensor, "d c m"]) -> None:
        """Set 64 tables, and the table of each context, from the counts: like ones share a table, by Lloyd's algorithm."""
        rows = counts.numpy().reshape(-1, _HALF + 2).astype(np.float64)
        total = rows.sum(1)
        size = (rows @ np.arange(_HALF + 2)) / np.maximum(total, 1)
        # A context without counts takes the mean of its channel's others.
        channel = counts.numpy().sum(1) @ np.arange(_HALF + 2) / np.maximum(counts.numpy().sum((1, 2)), 1)
        size = np.where(total > 0, size, np.repeat(channel, _CONTEXTS))
        group = np.searchsorted(np.geomspace(1e-3, 16, _GROUPS - 1), size)
        tables = self._tables()
        for _ in range(4):
            tables = np.stack([_table(rows[group == number].sum(0), number) for number in range(_GROUPS)])
            cost = rows @ _bits(tables).T
            group = np.where(total > 0, cost.argmin(1), group)
        self.context_tables.copy_(torch.from_numpy(tables))
        self.context_group.copy_(torch.from_numpy(group.reshape(self.out_dim, _CONTEXTS)))

    @torch.no_grad()
    def write(self, code: Code) -> list[bytes]:
        """Encode the numbers of each example's tokens as bytes."""
        tables, groups, strings = self._tables(), self._groups(), []
        for row in range(len(code.z)):
            own, valid = self._numbers(code, row)
            steps: list[tuple[Integers, Integers, Integers]] = []

            def keep(
                step: _Step, own: Integers = own, valid: NDArray[np.bool_] = valid, steps: list = steps
            ) -> Integers:
                values = own[step.channel][step.places]
                there = valid[step.places]
                steps.append(
                    (
                        values[there],
                        (values - step.predicted)[there],
                        groups[step.channel][step.context[there]],
                    )
                )
                return values

            self._walk(own.shape[1:], keep)
            stack = open_stack()
            for values, differences, numbers in reversed(steps):
                escaped = np.abs(differences) > _HALF
                stack.push(values[escaped] + self.limit, _uniform(self.values))
                columns = np.where(escaped, _ESCAPE, differences + _HALF)
                push_grouped(stack, columns, numbers, tables.__getitem__)
            strings.append(stack.to_bytes())
        return strings

    @torch.no_grad()
    def read(self, strings: Sequence[bytes], like: Code) -> Code:
        """Invert ``write``; see ``Latent.read``.

        Raises:
            CompressionError: a string does not end where its symbols end, or holds a number beyond the limit.
        """
        tables, groups = self._tables(), self._groups()
        b, n, dim = like.z.shape
        indices = torch.full((b, n, dim), self.limit, dtype=torch.int64)
        for row, string in enumerate(strings):
            _, valid = self._numbers(Code.of(like, z=like.z, indices=indices), row)
            stack = open_stack(string)

            def take(step: _Step, valid: NDArray[np.bool_] = valid, stack=stack) -> Integers:  # type: ignore[no-untyped-def]
                there = valid[step.places]
                columns = pop_grouped(stack, groups[step.channel][step.context[there]], tables.__getitem__)
                found = columns - _HALF + step.predicted[there]
                escaped = columns == _ESCAPE
                found[escaped] = stack.pop(int(escaped.sum()), _uniform(self.values)) - self.limit
                values = np.zeros(len(there), np.int64)
                values[there] = found
                return values

            own = self._walk(valid.shape, take)
            if not stack.empty() or np.abs(own).max(initial=0) > self.limit:
                raise CompressionError(
                    f"string {row} does not end where its symbols end, or was written under other tables"
                )
            indices[row] = torch.from_numpy(own.reshape(dim, -1).T + self.limit)
        indices = indices.to(like.z.device)
        return Code.of(like, z=self.embed(indices).to(like.z), indices=indices)

    def _numbers(self, code: Code, row: int) -> tuple[Integers, NDArray[np.bool_]]:
        """Return an example's numbers (d h w), 0 at padding, and which places are valid (h w)."""
        assert code.indices is not None
        n, grid = code.z.shape[1], code.grid
        size = grid if grid is not None and len(grid) == 2 and grid[0] * grid[1] == n else (1, n)
        valid = np.ones(size, bool) if code.mask is None else code.mask[row].cpu().numpy().reshape(size)
        own = (code.indices[row].cpu().numpy().T - self.limit).reshape(-1, *size)
        return own * valid, valid

    def _walk(self, size: tuple[int, ...], visit: Callable[[_Step], Integers]) -> Integers:
        """Visit all numbers in the order of coding; ``visit`` returns those of its places, also at padding, where they are 0."""
        height, width = size
        own = np.zeros((self.out_dim, height, width), np.int64)
        earlier = np.zeros((height, width), np.int64)  # sizes of earlier channels, the latest ones most
        passes = list(_passes(height, width))
        for channel in range(self.out_dim):
            sizes = np.zeros((height, width), np.int64)
            level = np.searchsorted(_EARLIER, _smooth(earlier), side="right")
            for places, neighbors, count in passes:
                known = own[channel][neighbors] * (count > 0)
                total = known.sum(0)
                many = np.maximum(count.sum(0), 1)
                predicted = np.zeros(len(total), np.int64)
                around = (4 * np.minimum(np.abs(known), _LARGEST).sum(0)) // many
                if channel < self.predicted:
                    predicted = np.floor_divide(2 * total + many, 2 * many)  # rounded mean
                    spread = np.abs(known - predicted) * (count > 0)
                    around = (4 * spread.sum(0)) // many
                near = np.where(count.any(0), 1 + np.searchsorted(_AROUND, around, side="right"), 0)
                context = level[places] * (len(_AROUND) + 2) + near
                values = visit(_Step(channel, places, predicted, context))
                own[channel][places] = values
                sizes[places] = np.minimum(np.abs(values - predicted), _LARGEST)
            earlier = (earlier * 7) // 8 + 8 * sizes
        return own

    def _tables(self) -> Integers:
        if not self.has_tables:
            return np.stack([_table(np.zeros(_HALF + 2), _GROUPS)] * _GROUPS)
        return self.context_tables.cpu().long().numpy()

    def _groups(self) -> Integers:
        return self.context_group.cpu().long().numpy()


@dataclass(frozen=True)
class _Step:
    """Numbers that are coded together: channel, places (rows, columns), what is predicted (t), and their contexts (t)."""

    channel: int
    places: tuple[Integers, Integers]
    predicted: Integers
    context: Integers


def _passes(
    height: int, width: int
) -> Iterator[tuple[tuple[Integers, Integers], tuple[Integers, Integers], Integers]]:
    """Yield places from coarse to fine (t), their neighbors of earlier passes (4 t), and which of these exist (4 t)."""
    rows, columns = np.mgrid[:height, :width]
    step = _STRIDES[0]
    yield _neighborhood((rows % step == 0) & (columns % step == 0), [], height, width)
    for step in _STRIDES:
        half = step // 2
        diagonal = [(-half, -half), (-half, half), (half, -half), (half, half)]
        straight = [(-half, 0), (half, 0), (0, -half), (0, half)]
        middle = (rows % step == half) & (columns % step == half)
        yield _neighborhood(middle, diagonal, height, width)
        rest = (rows % half == 0) & (columns % half == 0) & ((rows % step == half) ^ (columns % step == half))
        yield _neighborhood(rest, straight, height, width)


def _neighborhood(
    chosen: NDArray[np.bool_], offsets: list[tuple[int, int]], height: int, width: int
) -> tuple[tuple[Integers, Integers], tuple[Integers, Integers], Integers]:
    rows, columns = np.nonzero(chosen)
    shift = np.array(offsets or [(0, 0)])
    beside = rows + shift[:, :1], columns + shift[:, 1:]
    inside = (beside[0] >= 0) & (beside[0] < height) & (beside[1] >= 0) & (beside[1] < width) & bool(offsets)
    return (
        (rows, columns),
        (beside[0].clip(0, height - 1), beside[1].clip(0, width - 1)),
        inside.astype(np.int64),
    )


def _smooth(x: Integers) -> Integers:
    """Return a weighted mean of each place and its four neighbors, as a whole number."""
    padded = np.pad(x, 1, mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return (4 * x + around) // 8


def _table(counts: NDArray[np.float64], number: int) -> Integers:
    """Return the frequencies of -24 to 24 and the escape from counts of sizes; a little of a geometric decay for rare ones."""
    decay = min(0.97, 0.02 + number / _GROUPS)
    sizes = counts + 0.5 * (1 - decay) * decay ** np.arange(len(counts)) + 1e-3
    signed = np.concatenate([sizes[_HALF:0:-1] / 2, sizes[:1], sizes[1 : _HALF + 1] / 2, sizes[_HALF + 1 :]])
    return to_frequencies((signed / signed.sum() * 2**30).astype(np.int64))


def _bits(tables: Integers) -> NDArray[np.float64]:
    """Return the bits of each size 0 to 24 with its sign, and of the escape, under each table (k m)."""
    bits = 16 - np.log2(np.maximum(tables, 1))
    return np.concatenate([bits[:, _HALF : 2 * _HALF + 1], bits[:, _ESCAPE:]], 1)


def _uniform(entries: int) -> Integers:
    return to_frequencies(np.zeros(entries, np.int64))
