"""Data set of sentences drawn from a small English grammar, with constructions that can be held out."""

from __future__ import annotations

import random
from typing import Annotated, Literal

from annotated_types import Ge, Le

from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Seed
from reprkit_structure.data.treebank import Span, Treebank

# Rules with their weights; symbols in lower case are classes of words.
_RULES: dict[str, tuple[tuple[float, tuple[str, ...]], ...]] = {
    "S": ((1, ("NP", "VP")),),
    "NP": (
        (4, ("det", "noun")),
        (2, ("det", "NBAR")),
        (2, ("name",)),
        (1.2, ("NP", "PP")),
        (1.2, ("NP", "RC")),
    ),
    "NBAR": ((3, ("adjective", "noun")), (1, ("adjective", "NBAR"))),
    "VP": (
        (2, ("intransitive",)),
        (4, ("transitive", "NP")),
        (1, ("VP", "PP")),
        (1, ("says", "CP")),
        (1, ("adverb", "VP")),
    ),
    "CP": ((1, ("that", "S")),),
    "PP": ((1, ("preposition", "NP")),),
    "RC": ((1, ("who", "VP")),),
}
_WORDS: dict[str, tuple[str, ...]] = {
    "det": ("the", "a", "every", "this"),
    "noun": ("cat", "dog", "teacher", "child", "farmer", "garden", "river", "letter", "window", "king"),
    "name": ("Ada", "Ben", "Cleo", "Dan"),
    "adjective": ("old", "small", "happy", "green", "quiet"),
    "intransitive": ("sleeps", "laughs", "waits", "falls"),
    "transitive": ("sees", "likes", "follows", "helps", "finds"),
    "says": ("says", "thinks", "knows"),
    "adverb": ("often", "never", "still"),
    "preposition": ("near", "with", "behind", "in"),
    "that": ("that",),
    "who": ("who",),
}
# A phrase directly or anywhere below another: no sentence of the part "seen" has one.
_HELD_OUT: dict[str, tuple[str, str]] = {
    "a relative clause inside a prepositional phrase": ("PP", "RC"),
    "a clause of speech inside a relative clause": ("RC", "CP"),
    "a phrase of adjectives inside a clause of speech": ("CP", "NBAR"),
}

_Tree = tuple[str, tuple["_Tree", ...]]  # a phrase and its parts; a word is a tree without parts


class Sentences(Treebank):
    """Sentences of a grammar of eight kinds of phrases and 44 words, each once, with all phrases as brackets.

    The grammar has subjects and objects, prepositional phrases, relative clauses, clauses of speech, adverbs and chains of
    adjectives; most of its phrases nest.  Three constructions are held out, each a phrase inside of another: a relative clause
    in a prepositional phrase, a clause of speech in a relative clause, a phrase of adjectives in a clause of speech.  Sentences
    of the part "seen" have none of them, those of "held-out" one at least, so that a parser of the second has to combine phrases
    that it has never seen together.

    Fields: ``x`` tokens (t,), and ``opens`` and ``closes`` (t,), the brackets before and after each word, for evaluation only.

    Args:
        part: "seen" or "held-out".
        size: number of sentences.
        longest: largest number of words.
        seed: of the draws.

    Raises:
        DataError: fewer different sentences than ``size``.
    """

    def __init__(
        self,
        part: Literal["seen", "held-out"] = "seen",
        *,
        size: Count = 5_000,
        longest: Annotated[int, Ge(3), Le(100)] = 16,
        seed: Seed = 0,
    ) -> None:
        draw = random.Random(f"{part} {seed}")
        found: dict[tuple[str, ...], tuple[tuple[str, ...], list[Span]]] = {}
        for _ in range(100 * size + 1_000):
            if len(found) == size:
                break
            tree = _grow(draw, "S", 0)
            if tree is None or _is_held_out(tree, frozenset()) != (part == "held-out"):
                continue
            spans: list[Span] = []
            words = tuple(_read(tree, 0, spans))
            if len(words) <= longest:
                found.setdefault(words, (words, spans))
        if len(found) < size:
            raise DataError(
                f"sentences({part!r}): only {len(found)} different sentences of up to {longest} words were drawn: "
                "ask for a smaller size= or a larger longest="
            )
        self._fill(list(found.values()), sorted(word for words in _WORDS.values() for word in words))
        self.facts["held_out"] = list(_HELD_OUT)


def _grow(draw: random.Random, symbol: str, depth: int) -> _Tree | None:
    """Draw a tree; None where it becomes deeper than any sentence of an allowed length."""
    if symbol in _WORDS:
        return draw.choice(_WORDS[symbol]), ()
    if depth > 14:
        return None
    rules = _RULES[symbol]
    (_, parts), *_ = draw.choices(rules, [weight for weight, _ in rules])
    below = []
    for part in parts:
        tree = _grow(draw, part, depth + 1)
        if tree is None:
            return None
        below.append(tree)
    return symbol, tuple(below)


def _is_held_out(tree: _Tree, above: frozenset[str]) -> bool:
    symbol, parts = tree
    if any(inner == symbol and outer in above for outer, inner in _HELD_OUT.values()):
        return True
    return any(_is_held_out(part, above | {symbol}) for part in parts)


def _read(tree: _Tree, begin: int, spans: list[Span]) -> list[str]:
    """Return the words of a tree, and add the spans of its phrases, which begin at word ``begin``."""
    symbol, parts = tree
    if not parts:
        return [symbol]
    words: list[str] = []
    for part in parts:
        words += _read(part, begin + len(words), spans)
    span = (begin, begin + len(words) - 1)
    if span not in spans:  # a phrase of one part has the span of that part
        spans.append(span)
    return words
