"""Context modeling in whole numbers: the order of coding, contexts, counts, tables and bytes; NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reprkit.utils.symbol_coder import to_frequencies
from reprkit.utils.symbol_stack import open_stack
from reprkit_compress.latents.grouped_symbols import pop_grouped, push_grouped

Integers = NDArray[np.int64]

HALF = 24  # the largest number of a table; beyond it the number itself follows an escape
ESCAPE = 2 * HALF + 1
GROUPS = 64  # tables
_LARGEST = 15  # of a size that counts for a context
_EARLIER = np.array([1, 8, 24, 48, 96, 160, 256, 400, 640])  # bounds of the sizes of earlier channels
# Bounds of four times the mean size of known neighbors; context 0 is for none.
_AROUND = np.array([1, 3, 5, 9, 15, 25])
CONTEXTS = (len(_EARLIER) + 1) * (len(_AROUND) + 2)
_STRIDES = (4, 2)


@dataclass(frozen=True)
class ContextCoder:
    """Codes whole numbers of examples on a map (d b h w), channel by channel and from coarse places to fine ones.

    Attributes:
        limit: the largest number.
        predicted: leading channels that are coded as differences from the mean of their known neighbors.
        groups: number of the table of each context of each channel (d c).
        tables: frequencies of -24 to 24 and the escape (k v).
    """

    limit: int
    predicted: int
    groups: Integers
    tables: Integers

    def count(self, own: Integers, valid: NDArray[np.bool_], counts: Integers) -> None:
        """Add the sizes of numbers (d b h w) at valid places (b h w), in their contexts, to counts (d c m)."""
        flat = counts.reshape(len(counts), -1)

        def add(step: Step) -> Integers:
            values = own[step.channel][:, *step.places]
            size = np.minimum(np.abs(values - step.predicted), HALF + 1)
            there = valid[:, *step.places]
            place = step.context[there] * (HALF + 2) + size[there]
            flat[step.channel] += np.bincount(place, minlength=flat.shape[1])
            return values

        self.walk(valid.shape, add)

    def bits(self, counts: Integers) -> float:
        """Return the bits of counted numbers."""
        escaped = float(counts[..., -1].sum()) * np.log2(2 * self.limit + 1)
        return float((counts * size_bits(self.tables)[self.groups]).sum()) + escaped

    def write(self, own: Integers, valid: NDArray[np.bool_]) -> list[bytes]:
        """Return the strings of numbers (d b h w) at valid places (b h w), one an example."""
        steps: list[_Coded] = []

        def keep(step: Step) -> Integers:
            values = own[step.channel][:, *step.places]
            numbers = self.groups[step.channel][step.context]
            steps.append((values, values - step.predicted, numbers, valid[:, *step.places]))
            return values

        self.walk(valid.shape, keep)
        return [self._write_row(row, steps) for row in range(len(valid))]

    def _write_row(self, row: int, steps: list[_Coded]) -> bytes:
        """Push an example's numbers, the last ones first."""
        stack, raw = open_stack(), uniform(2 * self.limit + 1)
        for values, differences, numbers, valid in reversed(steps):
            there = valid[row]
            own = differences[row][there]
            escaped = np.abs(own) > HALF
            stack.push(values[row][there][escaped] + self.limit, raw)
            columns = np.where(escaped, ESCAPE, own + HALF)
            push_grouped(stack, columns, numbers[row][there], self.tables.__getitem__)
        return stack.to_bytes()

    def read(self, string: bytes, valid: NDArray[np.bool_]) -> Integers | None:
        """Return the numbers of one example (d 1 h w), 0 at padding; None where they do not fit the string."""
        stack, raw = open_stack(string), uniform(2 * self.limit + 1)

        def take(step: Step) -> Integers:
            there = valid[:, *step.places]
            numbers = self.groups[step.channel][step.context[there]]
            columns = pop_grouped(stack, numbers, self.tables.__getitem__)
            found = columns - HALF + step.predicted[there]
            escaped = columns == ESCAPE
            found[escaped] = stack.pop(int(escaped.sum()), raw) - self.limit
            values = np.zeros(there.shape, np.int64)
            values[there] = found
            return values

        own = self.walk(valid.shape, take)
        return own if stack.empty() and np.abs(own).max(initial=0) <= self.limit else None

    def walk(self, size: tuple[int, ...], visit: Callable[[Step], Integers]) -> Integers:
        """Visit all numbers of examples (b h w) in the order of coding, and return what ``visit`` says they are (d b h w)."""
        own = np.zeros((len(self.groups), *size), np.int64)
        earlier = np.zeros(size, np.int64)  # sizes of earlier channels, the latest ones most
        order = list(passes(*size[1:]))
        for channel in range(len(self.groups)):
            sizes = np.zeros(size, np.int64)
            level = np.searchsorted(_EARLIER, _smooth(earlier), side="right")
            for places, neighbors, count in order:
                known = own[channel][:, *neighbors] * count  # (b 4 t)
                total, many = known.sum(1), np.maximum(count.sum(0), 1)
                predicted = np.zeros_like(total)
                around = (4 * np.minimum(np.abs(known), _LARGEST).sum(1)) // many
                if channel < self.predicted:
                    predicted = np.floor_divide(2 * total + many, 2 * many)  # rounded mean
                    around = (4 * (np.abs(known - predicted[:, None]) * count).sum(1)) // many
                near = np.where(count.any(0), 1 + np.searchsorted(_AROUND, around, side="right"), 0)
                context = level[:, *places] * (len(_AROUND) + 2) + near
                values = visit(Step(channel, places, predicted, context))
                own[channel][:, *places] = values
                sizes[:, *places] = np.minimum(np.abs(values - predicted), _LARGEST)
            earlier = (earlier * 7) // 8 + 8 * sizes
        return own


# Values, their differences from what is predicted, numbers of their tables (b t), and which of them are valid.
_Coded = tuple[Integers, Integers, Integers, NDArray[np.bool_]]


@dataclass(frozen=True)
class Step:
    """Numbers that are coded together: channel, places (rows, columns), what is predicted and their contexts (b t)."""

    channel: int
    places: tuple[Integers, Integers]
    predicted: Integers
    context: Integers


def passes(
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
    """Return a weighted mean of each place (b h w) and its four neighbors, as a whole number."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return (4 * x + around) // 8


def fit_tables(counts: Integers) -> tuple[Integers, Integers]:
    """Return the table of each context (d c) and the tables (k v): like contexts share one, by Lloyd's algorithm."""
    channels, contexts, sizes = counts.shape
    rows = counts.reshape(-1, sizes).astype(np.float64)
    total, number = rows.sum(1), np.arange(sizes)
    mean = rows @ number / np.maximum(total, 1)
    # A context without counts takes the mean of its channel's others.
    channel = counts.sum(1) @ number / np.maximum(counts.sum((1, 2)), 1)
    mean = np.where(total > 0, mean, np.repeat(channel, contexts))
    group = np.searchsorted(np.geomspace(1e-3, 16, GROUPS - 1), mean)
    tables = np.zeros((GROUPS, ESCAPE + 1), np.int64)
    for _ in range(4):
        tables = np.stack([table_of(rows[group == each].sum(0), each) for each in range(GROUPS)])
        group = np.where(total > 0, (rows @ size_bits(tables).T).argmin(1), group)
    return group.reshape(channels, contexts), tables


def table_of(counts: NDArray[np.float64], number: int) -> Integers:
    """Return the frequencies of -24 to 24 and the escape from counts of sizes; a little of a geometric decay for rare ones."""
    decay = min(0.97, 0.02 + number / GROUPS)
    sizes = counts + 0.5 * (1 - decay) * decay ** np.arange(len(counts)) + 1e-3
    signed = np.concatenate([sizes[HALF:0:-1] / 2, sizes[:1], sizes[1 : HALF + 1] / 2, sizes[HALF + 1 :]])
    return to_frequencies((signed / signed.sum() * 2**30).astype(np.int64))


def size_bits(tables: Integers) -> NDArray[np.float64]:
    """Return the bits of each size 0 to 24 with its sign, and of the escape, under each table (k m)."""
    bits = 16 - np.log2(np.maximum(tables, 1))
    return np.concatenate([bits[:, HALF : 2 * HALF + 1], bits[:, ESCAPE:]], 1)


def uniform(entries: int) -> Integers:
    """Return frequencies of symbols that all cost the same."""
    return to_frequencies(np.zeros(entries, np.int64))
