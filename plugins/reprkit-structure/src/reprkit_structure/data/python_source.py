"""Expressions of Python source code: their tokens, and the spans of the nodes of the syntax tree."""

from __future__ import annotations

import ast
import io
import keyword
import tokenize
from collections.abc import Iterator

# All symbols, so that every data set of expressions numbers them alike, whichever it holds.
SYMBOLS = (
    "name", "number", "string", "None", "True", "False",
    "(", ")", "[", "]", "{", "}", ",", ":", ".", "...", "=", ":=",
    "+", "-", "*", "/", "//", "%", "@", "**", "<<", ">>", "&", "|", "^", "~",
    "<", ">", "<=", ">=", "==", "!=", "and", "or", "not", "in", "is",
    "if", "else", "for", "async", "await", "lambda", "yield", "from",
)  # fmt: skip
_KINDS = {tokenize.NUMBER: "number", tokenize.STRING: "string"}
_LAYOUT = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.COMMENT,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}

Sentence = tuple[tuple[str, ...], tuple[tuple[int, int], ...]]


def expressions_of(source: bytes, longest: int) -> Iterator[Sentence]:
    """Yield the outermost expressions of a source file, of one line or several, as tokens and spans (first, last token).

    Names, numbers and strings are one symbol each, ``name``, ``number`` and ``string``; keywords and operators stay.  A span is
    that of a node of Python's syntax tree, each once.

    Args:
        source: the file.
        longest: expressions of more tokens are left out.

    Raises:
        SyntaxError: the file is not Python of this version.
    """
    tree = ast.parse(source)
    words, starts, ends = _tokens(source)
    for node in _outermost(tree):
        first, last = starts.get(_start(node)), ends.get(_end(node))
        if first is None or last is None or last - first >= longest:
            continue
        if not set(words[first : last + 1]).issubset(SYMBOLS):
            continue  # a symbol of a later Python
        spans = set[tuple[int, int]]()
        for below in ast.walk(node):
            if hasattr(below, "end_lineno"):
                begin, end = starts.get(_start(below)), ends.get(_end(below))
                if begin is not None and end is not None:  # not so inside of f-strings
                    spans.add((begin - first, end - first))
        yield tuple(words[first : last + 1]), tuple(sorted(spans))


def _tokens(source: bytes) -> tuple[list[str], dict[tuple[int, int], int], dict[tuple[int, int], int]]:
    """Return the symbols, and the number of the token that starts or ends at (line, column in bytes)."""
    words = list[str]()
    starts, ends = dict[tuple[int, int], int](), dict[tuple[int, int], int]()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    text = io.TextIOWrapper(io.BytesIO(source), encoding).read()
    lines = text.split("\n")

    def place(position: tuple[int, int]) -> tuple[int, int]:
        """Convert a column in characters to one in bytes of UTF-8, as the syntax tree counts."""
        line, column = position
        return line, len(lines[line - 1][:column].encode())

    nested = 0  # f-strings are several tokens from Python 3.12 on
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "FSTRING_START":
            nested += 1
            if nested == 1:
                starts[place(token.start)] = len(words)
            continue
        if kind == "FSTRING_END":
            nested -= 1
            if nested == 0:
                ends[place(token.end)] = len(words)
                words.append("string")
            continue
        if nested or token.type in _LAYOUT:
            continue
        starts[place(token.start)] = ends[place(token.end)] = len(words)
        if token.type == tokenize.NAME:
            words.append(token.string if keyword.iskeyword(token.string) else "name")
        else:
            words.append(_KINDS.get(token.type, token.string))
    return words, starts, ends


def _outermost(node: ast.AST) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        else:
            yield from _outermost(child)


def _start(node: ast.AST) -> tuple[int, int]:
    return node.lineno, node.col_offset  # type: ignore[attr-defined]


def _end(node: ast.AST) -> tuple[int, int]:
    return node.end_lineno, node.end_col_offset  # type: ignore[attr-defined]
