"""The edit distance of two sequences."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def edit_distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return the least number of substitutions, insertions and deletions that make one sequence the other.

    Levenshtein 1966; computed row by row (Wagner and Fischer 1974, "The string-to-string correction problem").
    """
    if len(other) > len(one):
        one, other = other, one
    before = list(range(len(other) + 1))
    for row, item in enumerate(one, 1):
        # diagonal, above, left: the distances without the last item of both, of one, and of the other
        diagonal, left = before[0], row
        for column, opposite in enumerate(other, 1):
            above = before[column]
            if item != opposite:
                if above < diagonal:
                    diagonal = above
                if left < diagonal:
                    diagonal = left
                diagonal += 1
            before[column - 1] = left
            left, diagonal = diagonal, above
        before[-1] = left
    return before[-1]
