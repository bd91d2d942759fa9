"""Data set of sentences made by templates, each with the Python expression that it describes."""

from __future__ import annotations

import ast
import random
from typing import Annotated, Literal

from annotated_types import Ge, Le

from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Seed
from reprkit_structure.data.text_trees import Pair, TextTrees, pair_of
from reprkit_structure.layers.python_rules import steps_of

_NAMES = ("x", "y", "total", "count", "items", "prices", "words", "user", "order", "rate")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_FIELDS = ("name", "price", "size", "owner", "date")
# Of each operation: how an expression is made of those of its parts, and its wordings.
_OPERATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "add": ("A + B", ("the sum of A and B", "A plus B", "A increased by B", "B added to A")),
    "subtract": (
        "A - B",
        ("A minus B", "B subtracted from A", "A decreased by B", "the difference of A and B"),
    ),
    "multiply": ("A * B", ("A times B", "the product of A and B", "A multiplied by B")),
    "divide": ("A / B", ("A divided by B", "the ratio of A to B", "A over B")),
    "power": ("A ** B", ("A to the power of B", "A raised to B")),
    "remainder": ("A % B", ("A modulo B", "the remainder of A divided by B")),
    "length": ("len(A)", ("the length of A", "the number of elements of A", "how many A has")),
    "largest": ("max(A)", ("the largest of A", "the maximum of A", "the greatest element of A")),
    "smallest": ("min(A)", ("the smallest of A", "the minimum of A", "the least element of A")),
    "total": ("sum(A)", ("the total of A", "everything in A added up")),
    "magnitude": ("abs(A)", ("the magnitude of A", "A without its sign")),
    "text": ("str(A)", ("A as text", "A converted to a string")),
    "greater": ("max(A, B)", ("the greater of A and B", "A or B whichever is more")),
    "round": ("round(A, ndigits=B)", ("A rounded to B digits", "A with B digits after the point")),
    "order": ("sorted(A)", ("A in order", "the sorted elements of A")),
    "reverse": ("sorted(A, reverse=True)", ("A in descending order", "A sorted from the top")),
    "element": ("A[B]", ("element B of A", "the item of A at B", "what A has at B")),
    "first": ("A[0]", ("the first of A", "the beginning of A")),
    "last": ("A[-1]", ("the last of A", "the end of A")),
    "less": ("A < B", ("whether A is less than B", "A being below B", "if A is under B")),
    "equal": ("A == B", ("whether A equals B", "A being the same as B")),
    "contains": ("A in B", ("whether B contains A", "A being one of B")),
    "either": ("A if B else x", ("A if B and otherwise x", "x unless B in which case A")),
}
_HELD_OUT = 5  # of pairs of an operation inside another, one in so many


class Templates(TextTrees):
    """Sentences made by templates, each with its expression: "the largest of items plus three", ``max(items) + 3``.

    23 operations with two to four wordings each, whose parts are names, numbers, fields ("the price of order", ``order.price``)
    and other operations, one level deep: "the result of" begins such a part and "then" ends it.

    **Held-out combinations**: of all pairs of an operation inside another, every fifth occurs in no sentence of part "seen", and
    in every one of "held-out".

    Fields: ``x`` tokens (t,), the words; ``tree`` tokens (t,), the rules of the syntax tree.

    Args:
        part: "seen" or "held-out".
        size: number of sentences, each once.
        nested: probability that a part of an operation is an operation; in "held-out" at least one is.
        longest: largest number of rules of a tree.
        seed: of the draws.

    Raises:
        DataError: fewer different sentences than ``size``.
    """

    def __init__(
        self,
        part: Literal["seen", "held-out"] = "seen",
        *,
        size: Count = 5_000,
        nested: Annotated[float, Ge(0.0), Le(1.0)] = 0.3,
        longest: Annotated[int, Ge(10), Le(60)] = 28,
        seed: Seed = 0,
    ) -> None:
        draw = random.Random(f"{part} {seed}")
        found: dict[str, Pair] = {}
        for _ in range(50 * size + 1_000):
            if len(found) == size:
                break
            pairs: list[tuple[str, str]] = []
            text, source = _phrase(draw, draw.choice(list(_OPERATIONS)), nested, pairs)
            if any(map(_is_held_out, pairs)) == (part == "held-out") and text not in found:
                node = ast.parse(source, mode="eval").body
                steps = steps_of(node)
                if len(steps) <= longest:
                    found[text] = pair_of(text.split(), node, steps)
        if len(found) < size:
            raise DataError(
                f"templates(part={part!r}): only {len(found)} different sentences were drawn: ask for a smaller size=, or a larger "
                "nested="
            )
        vocabulary = {
            word for _, wordings in _OPERATIONS.values() for each in wordings for word in each.split()
        }
        spoken = sorted(
            (vocabulary - {"A", "B"}) | {*_NAMES, *_NUMBERS, *_FIELDS, "the", "result", "of", "then"}
        )
        functions = ("abs", "len", "max", "min", "round", "sorted", "str", "sum", "ndigits", "reverse")
        self._fill(
            list(found.values()), spoken, [*_NAMES, *_FIELDS, *functions], [*map(str, range(10)), "True"]
        )
        self.facts["held_out"] = [
            f"{b} in {a}" for a in _OPERATIONS for b in _OPERATIONS if _is_held_out((a, b))
        ]


def _is_held_out(pair: tuple[str, str]) -> bool:
    outer, inner = (list(_OPERATIONS).index(name) for name in pair)
    return (2 * outer + inner) % _HELD_OUT == 0


def _phrase(
    draw: random.Random, operation: str, nested: float, pairs: list[tuple[str, str]]
) -> tuple[str, str]:
    """Return the words and the source of an operation with parts drawn at random; adds the pairs of outer and inner operation."""
    source, wordings = _OPERATIONS[operation]
    words_of, source_of = dict[str, str](), dict[str, str]()
    for part in ("A", "B"):
        if part not in source:
            continue
        if draw.random() < nested:
            inner = draw.choice(list(_OPERATIONS))
            pairs.append((operation, inner))
            words, expression = _phrase(draw, inner, 0.0, [])
            words_of[part], source_of[part] = f"the result of {words} then", f"({expression})"
        else:
            words_of[part], source_of[part] = _atom(draw)
    words = " ".join(words_of.get(word, word) for word in draw.choice(wordings).split())
    return words, "".join(source_of.get(character, character) for character in source)


def _atom(draw: random.Random) -> tuple[str, str]:
    form, name = draw.random(), draw.choice(_NAMES)
    if form < 0.25:
        number = draw.randrange(10)
        return _NUMBERS[number], str(number)
    if form < 0.5:
        field = draw.choice(_FIELDS)
        return f"the {field} of {name}", f"{name}.{field}"
    return name, name
