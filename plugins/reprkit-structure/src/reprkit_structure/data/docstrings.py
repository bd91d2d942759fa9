"""Data set of one-line docstrings of Python sources, each with the function's signature or what it returns."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from reprkit.data.folders import find_files
from reprkit.errors import DataError
from reprkit.registry.constraints import Count
from reprkit.utils.cache import cache_folder, write_cached
from reprkit_structure.data.text_trees import TextTrees, pair_of
from reprkit_structure.layers.python_rules import END, steps_of

_FORMAT = 2  # of the cached file: raise it when sources are read otherwise
_UNKNOWN = "<unknown>"
_WORD = re.compile(r"[A-Za-z]+|\d+")
_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "lib2to3"}


class Docstrings(TextTrees):
    """First lines of docstrings, each with an expression of its function, by default of the running Python's standard library.

    "signature": the call that the signature reads as, ``read_line(limit=-1)``: names of arguments, without self and cls, and
    defaults where the rules cover them.  "return": what the function returns, where its only return is its last statement.

    Words are in lower case, split at everything but letters and digits.  A word that is rare is ``<unknown>``; a function with a
    rare piece of a name, a rare constant, or a node that the rules do not cover is left out.  ``facts`` has the number of
    functions, of those that are not covered, and of files that are no Python (``unreadable``), and the Python version.

    Fields: ``x`` tokens (t,), the words; ``tree`` tokens (t,), the rules of the syntax tree.

    Args:
        target: "signature" or "return".
        longest: largest number of rules of a tree.
        words: largest number of words; longer texts are left out.
        least: smallest number of times that a word, a piece or a constant occurs.
        root: a file or folder of Python sources, None: the standard library, without its tests.

    Raises:
        DataError: no function fits, or a file that cannot be read as Python was asked for.
    """

    def __init__(
        self,
        target: Literal["signature", "return"] = "signature",
        *,
        longest: Annotated[int, Ge(4), Le(500)] = 40,
        words: Annotated[int, Ge(1), Le(500)] = 16,
        least: Count = 4,
        root: str | os.PathLike[str] | None = None,
    ) -> None:
        functions, unreadable = _functions(root, target)
        rows, uncovered, seen = [], 0, set[tuple[str, str]]()
        for text, source in functions:
            found = tuple(_WORD.findall(text.lower()))
            if not 0 < len(found) <= words or (text, source) in seen:
                continue
            seen.add((text, source))
            node = ast.parse(source, mode="eval").body
            try:
                steps = steps_of(node)
            except DataError:
                uncovered += 1
                continue
            if len(steps) <= longest:
                rows.append((found, node, steps))
        counts = Counter(step for _, _, steps in rows for step in steps)
        pieces = Counter[str]()
        for (symbol, name), count in counts.items():
            if symbol in ("name", "pieces") and name != END:
                pieces[name] += count
        known_pieces = sorted(piece for piece, count in pieces.items() if count >= least)
        constants = sorted(
            name for (symbol, name), n in counts.items() if symbol == "constant" and n >= least
        )
        kept = {("constant", name) for name in constants} | {
            (s, p) for s in ("name", "pieces") for p in known_pieces
        }
        kept |= {step for step in counts if step[0] not in ("constant", "name", "pieces")} | {("pieces", END)}
        rows = [row for row in rows if kept.issuperset(row[2])]
        often = Counter(word for text, _, _ in rows for word in text)
        known = [_UNKNOWN, *sorted(word for word, count in often.items() if count >= least)]
        is_known = set(known)
        texts = [tuple(word if word in is_known else _UNKNOWN for word in text) for text, _, _ in rows]
        pairs = [pair_of(text, node, steps) for text, (_, node, steps) in zip(texts, rows, strict=True)]
        self._fill(pairs, known, known_pieces, constants)
        self.facts |= {"functions": len(seen), "uncovered": uncovered, "unreadable": unreadable}
        self.facts["python"] = sys.version.split()[0]


def _functions(root: str | os.PathLike[str] | None, target: str) -> tuple[list[list[str]], int]:
    """Return first lines of docstrings with the source of an expression, and how many files are no Python."""
    if root is not None:
        return _read(Path(root).expanduser(), target)
    cached = cache_folder("structure") / f"docstrings-{target}-{sys.version.split()[0]}-{_FORMAT}.json"
    if cached.is_file():
        stored = json.loads(cached.read_text(encoding="utf-8"))
        return stored["functions"], stored["unreadable"]
    found, unreadable = _read(Path(sysconfig.get_paths()["stdlib"]), target)
    write_cached(cached, json.dumps({"functions": found, "unreadable": unreadable}).encode())
    return found, unreadable


def _read(root: Path, target: str) -> tuple[list[list[str]], int]:
    found, unreadable = list[list[str]](), 0
    names = [""] if root.is_file() else find_files(root, {".py"}, "Python sources").names
    for name in sorted(names):
        if _LEFT_OUT & set(Path(name).parts):
            continue
        try:
            tree = ast.parse((root / name if name else root).read_bytes())
        except (SyntaxError, ValueError, OSError) as error:
            if root.is_file():
                raise DataError(f"{str(root)!r} cannot be read as Python: {error}") from error
            unreadable += 1
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                text = (ast.get_docstring(node) or "").strip().split("\n")[0]
                made = _signature(node) if target == "signature" else _returned(node)
                if text and made is not None:
                    found.append([text, ast.unparse(made)])
    return found, unreadable


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.expr | None:
    given = node.args
    if given.vararg or given.kwarg or node.name.startswith("__"):
        return None
    plain = [each.arg for each in (*given.posonlyargs, *given.args)]
    without = len(plain) - len(given.defaults)
    defaults = dict(zip(plain[without:], given.defaults, strict=True))
    defaults |= {
        each.arg: value for each, value in zip(given.kwonlyargs, given.kw_defaults, strict=True) if value
    }
    names = [
        name for name in (*plain, *(each.arg for each in given.kwonlyargs)) if name not in ("self", "cls")
    ]
    call = ast.Call(
        ast.Name(node.name, ast.Load()),
        [ast.Name(name, ast.Load()) for name in names if name not in defaults],
        [ast.keyword(name, defaults[name]) for name in names if name in defaults],
    )
    return ast.fix_missing_locations(call)


def _returned(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.expr | None:
    returns = [each for each in ast.walk(node) if isinstance(each, ast.Return)]
    last = node.body[-1]
    return last.value if len(returns) == 1 and returns[0] is last and isinstance(last, ast.Return) else None
