"""Data set of Python expressions with their syntax trees."""

from __future__ import annotations

import json
import os
import random
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from reprkit.data.folders import find_files
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Seed
from reprkit.utils.cache import cache_folder, write_cached
from reprkit_structure.data.python_source import SYMBOLS, Sentence, expressions_of
from reprkit_structure.data.treebank import Treebank

LONGEST = 40  # tokens; longer expressions are never read
_FORMAT = 1  # of the cached file: raise it when expressions are read otherwise
_OPERATORS = ("+", "-", "*", "/", "**", "//", "%")


class Expressions(Treebank):
    """Expressions as sequences of symbols, each once, with the spans of their syntax trees as brackets.

    "python": the outermost expressions of source files, by default of the standard library of the running Python, whose version
    is in ``facts``.  Names, numbers and strings are one symbol each.  "arithmetic": drawn at random from numbers, names, seven
    operators, signs and parentheses, and read by Python's own parser, so the brackets follow its precedences.

    Fields: ``x`` tokens (t,), and ``opens`` and ``closes`` (t,), the brackets before and after each token, for evaluation only.

    Args:
        kind: "python" or "arithmetic".
        longest: largest number of tokens, to 40.
        shortest: smallest number of tokens.
        root: a file or folder of Python sources, None: the standard library; folders named test, tests, idle_test, lib2to3 and
            site-packages are left out, and files that cannot be read.
        size: number of expressions of kind "arithmetic".
        seed: of these.

    Raises:
        DataError: no expression fits; a root for arithmetic; fewer different ones than ``size``.
    """

    def __init__(
        self,
        kind: Literal["python", "arithmetic"] = "python",
        *,
        longest: Annotated[int, Ge(2), Le(LONGEST)] = 20,
        shortest: Annotated[int, Ge(1), Le(LONGEST)] = 2,
        root: str | os.PathLike[str] | None = None,
        size: Count = 5_000,
        seed: Seed = 0,
    ) -> None:
        if kind == "arithmetic" and root is not None:
            raise DataError(
                "expressions(kind='arithmetic') are drawn at random, and read no files: leave root= out"
            )
        found = _python(root) if kind == "python" else _arithmetic(size, shortest, longest, seed)
        rows = [row for row in found if shortest <= len(row[0]) <= longest]
        self._fill(rows, SYMBOLS)
        if kind == "python":
            self.facts["python"] = ".".join(map(str, sys.version_info[:3]))


def _python(root: str | os.PathLike[str] | None) -> list[Sentence]:
    """Return the different expressions of the sources, in the order of their text."""
    if root is not None:
        return _read(Path(root).expanduser())
    cached = cache_folder("structure") / f"expressions-{sys.version.split()[0]}-{_FORMAT}.json"
    if cached.is_file():
        rows = json.loads(cached.read_text(encoding="utf-8"))
        return [(tuple(words.split()), tuple((i, j) for i, j in spans)) for words, spans in rows]
    found = _read(Path(sysconfig.get_paths()["stdlib"]))
    write_cached(cached, json.dumps([(" ".join(words), spans) for words, spans in found]).encode())
    return found


def _read(root: Path) -> list[Sentence]:
    names = [""] if root.is_file() else find_files(root, {".py"}, "Python sources").names
    found = dict[tuple[str, ...], Sentence]()
    for name in names:
        path = root / name if name else root
        if {"test", "tests", "idle_test", "site-packages", "lib2to3"} & set(Path(name).parts):
            continue
        try:
            for row in expressions_of(path.read_bytes(), LONGEST):
                found.setdefault(row[0], row)
        except (SyntaxError, ValueError, tokenize.TokenError, OSError) as error:
            if root.is_file():
                raise DataError(f"{str(root)!r} cannot be read as Python: {error}") from error
    return [found[words] for words in sorted(found)]


def _arithmetic(size: int, shortest: int, longest: int, seed: int) -> list[Sentence]:
    draw, found = random.Random(seed), dict[tuple[str, ...], Sentence]()
    for _ in range(100 * size):
        if len(found) == size:
            break
        words = tuple(_draw(draw, 4))
        if shortest <= len(words) <= longest and words not in found:
            source = " ".join({"number": "1", "name": "a"}.get(word, word) for word in words)
            # Parentheses around the whole are no part of the expression.
            found.update((row[0], row) for row in expressions_of(source.encode(), longest) if row[0] == words)
    if len(found) < size:
        raise DataError(
            f"expressions(kind='arithmetic'): only {len(found)} different expressions of {shortest} to {longest} tokens were "
            "drawn: ask for a smaller size= or a larger longest="
        )
    return list(found.values())


def _draw(draw: random.Random, depth: int) -> Iterator[str]:
    form = draw.random()
    if depth == 0 or form < 0.3:
        yield draw.choice(("number", "name"))
    elif form < 0.75:
        yield from _draw(draw, depth - 1)
        yield draw.choice(_OPERATORS)
        yield from _draw(draw, depth - 1)
    elif form < 0.9:
        yield "("
        yield from _draw(draw, depth - 1)
        yield ")"
    else:
        yield draw.choice(("-", "+"))
        yield from _draw(draw, depth - 1)
