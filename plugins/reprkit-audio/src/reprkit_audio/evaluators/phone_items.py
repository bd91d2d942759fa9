"""ABX discrimination over items: occurrences of phones, compared by time warping, averaged as in zero-resource evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray[Any, Any]
# Frames of both items of several pairs, (p n d) and (p m d), to the costs of their frames (p n m).
FrameCosts = Callable[[Array, Array], Float[Array, "p n m"]]


@dataclass(frozen=True)
class Item:
    """One occurrence of a phone.

    Attributes:
        phone: its index.
        speaker: label.
        context: phones before and after it.
        tokens: rows of the code that it covers, as a range.
    """

    phone: int
    speaker: int
    context: tuple[int, int]
    tokens: range


def phone_items(
    phones: Int[Array, " t"], speaker: int, per: int, count: int, first: int, silent: frozenset[int]
) -> list[Item]:
    """Items of an example: runs of equal phones (t,), without the first and the last run and without silence.

    Args:
        phones: of the frames.
        speaker: label.
        per: frames of a token.
        count: tokens of the example.
        first: row of its first token.
        silent: phones that are silence.
    """
    edges = (np.flatnonzero(np.diff(phones)) + 1).tolist()
    items = []
    for start, stop in itertools.pairwise(edges):
        phone = int(phones[start])
        if phone in silent:
            continue
        centers = np.arange(count) * per + (per - 1) / 2
        inside = np.flatnonzero((centers >= start - 0.5) & (centers < stop - 0.5))
        low, high = (
            (inside[0], inside[-1] + 1)
            if len(inside)
            else ((middle := min((start + stop - 1) // 2 // per, count - 1)), middle + 1)
        )
        context = int(phones[start - 1]), int(phones[stop])
        items.append(Item(phone, speaker, context, range(first + int(low), first + int(high))))
    return items


def angular(one: Float[Array, "p n d"], two: Float[Array, "p m d"]) -> Float[Array, "p n m"]:
    """Angle between frames over pi, in [0, 1]; a zero vector is at 1/2 of all (Schatz et al. 2013, section 2.2)."""
    lengths = np.linalg.norm(one, axis=2)[:, :, None] * np.linalg.norm(two, axis=2)[:, None]
    products = one @ two.transpose(0, 2, 1)
    cosine = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return np.arccos(cosine.clip(-1, 1)) / np.pi


def mismatch(one: Int[Array, "p n q"], two: Int[Array, "p m q"]) -> Float[Array, "p n m"]:
    """Share of the indices that differ: the distance of discrete units without their embeddings, in [0, 1]."""
    return (one[:, :, None] != two[:, None]).mean(3)


def warped_distances(
    rows: Array, items: Sequence[Item], pairs: Int[Array, "p 2"], costs: FrameCosts
) -> Float[Array, " p"]:
    """Mean cost along the cheapest warping path of every pair of items; all pairs of equal lengths at once.

    Steps are those of ``reprkit_audio.distortion.dtw_path``.

    Args:
        rows: of the code (t d).
        items: ranges of these rows.
        pairs: indices of items.
        costs: of two frames.
    """
    lengths = np.array([len(item.tokens) for item in items])
    firsts = np.array([item.tokens.start for item in items])
    found = np.empty(len(pairs))
    shapes = lengths[pairs]
    for n, m in np.unique(shapes, axis=0):
        chosen = np.flatnonzero((shapes == (n, m)).all(1))
        for some in np.array_split(chosen, max(1, len(chosen) * n * m // 200_000)):
            one = rows[firsts[pairs[some, 0]][:, None] + np.arange(n)]
            two = rows[firsts[pairs[some, 1]][:, None] + np.arange(m)]
            found[some] = _mean_along_path(costs(one, two))
    return found


def _mean_along_path(costs: Float[Array, "p n m"]) -> Float[Array, " p"]:
    count, n, m = costs.shape
    total = np.full((count, n + 1, m + 1), np.inf)
    steps = np.zeros((count, n + 1, m + 1))
    total[:, 0, 0] = 0
    every = np.arange(count)
    for i, j in itertools.product(range(n), range(m)):
        before = np.stack([total[:, i, j], total[:, i, j + 1], total[:, i + 1, j]], 1)
        best = before.argmin(1)
        lengths = np.stack([steps[:, i, j], steps[:, i, j + 1], steps[:, i + 1, j]], 1)
        total[:, i + 1, j + 1] = before[every, best] + costs[:, i, j]
        steps[:, i + 1, j + 1] = lengths[every, best] + 1
    return total[:, n, m] / steps[:, n, m]


def abx_error(
    rows: Array,
    items: Sequence[Item],
    costs: FrameCosts,
    *,
    across: bool,
    same_context: bool,
    group: int,
    seed: int,
) -> float | None:
    """ABX error: how often X, of phone p, is nearer to B, of another phone q, than to A, of p; a tie counts half.

    A and B are of one speaker, X of the same (another item than A) or, across, of another one.  The share of errors is taken over
    all A, B and X of a cell (p, q, speakers, context), then averaged over contexts, speakers, and ordered pairs of phones,
    so that frequent phones and speakers do not count more (Schatz et al. 2013, Interspeech, "Evaluating speech features with the
    minimal-pair ABX task", section 2.1).

    Args:
        rows: of the code (t d).
        items: the occurrences.
        costs: of two frames.
        across: whether X is of another speaker.
        same_context: whether A, B and X have the same phones before and after them.
        group: at most so many items of a phone, speaker and context, drawn at random.
        seed: of this draw.

    Returns:
        The error in [0, 1], chance 0.5; None if there is no cell.
    """
    cells = _group_items(items, same_context, group, seed)
    contexts = {context for _, _, context in cells}
    speakers = sorted({speaker for speaker, _, _ in cells})
    keys: list[
        tuple[int, int, int, int, int, int]
    ] = []  # p, q, speaker of A and B, of X; first triple, count
    triples: list[tuple[int, int, int]] = []
    for context in sorted(contexts):
        phones = sorted({phone for _, phone, at in cells if at == context})
        for p, q in itertools.permutations(phones, 2):
            for own, other in itertools.product(speakers, speakers):
                if (own != other) != across:
                    continue
                found = [
                    (a, b, x)
                    for a in cells.get((own, p, context), ())
                    for b in cells.get((own, q, context), ())
                    for x in cells.get((other, p, context), ())
                    if a != x
                ]
                if found:
                    keys.append((p, q, own, other, len(triples), len(found)))
                    triples += found
    if not triples:
        return None
    table = np.array(triples)
    pairs = np.sort(np.concatenate([table[:, [0, 2]], table[:, [1, 2]]]), axis=1)
    distinct, places = np.unique(pairs, axis=0, return_inverse=True)
    near, far = np.split(warped_distances(rows, items, distinct, costs)[places.reshape(-1)], 2)
    tied = np.isclose(near, far, rtol=1e-9, atol=1e-12)
    wrong = np.where(tied, 0.5, near > far)
    by_context: dict[tuple[int, int, int, int], list[float]] = {}
    for p, q, own, other, first, count in keys:
        by_context.setdefault((p, q, own, other), []).append(float(wrong[first : first + count].mean()))
    by_speakers: dict[tuple[int, int], list[float]] = {}
    for (p, q, _, _), errors in by_context.items():
        by_speakers.setdefault((p, q), []).append(float(np.mean(errors)))
    return float(np.mean([np.mean(errors) for errors in by_speakers.values()]))


def _group_items(
    items: Sequence[Item], same_context: bool, group: int, seed: int
) -> dict[tuple[int, int, tuple[int, int]], list[int]]:
    """(speaker, phone, context) -> numbers of at most ``group`` items; one context for all unless ``same_context``."""
    cells: dict[tuple[int, int, tuple[int, int]], list[int]] = {}
    for number, item in enumerate(items):
        context = item.context if same_context else (-1, -1)
        cells.setdefault((item.speaker, item.phone, context), []).append(number)
    generator = np.random.default_rng(seed)
    return {
        key: numbers
        if len(numbers) <= group
        else sorted(generator.choice(numbers, group, replace=False).tolist())
        for key, numbers in sorted(cells.items())
    }
