"""Parse references such as ``vq(codes=512)``: a name and literal keyword arguments, read with ``ast`` and never evaluated.

A name may be qualified by its distribution (``acme-latents/vq``).  Sums are written
``reconstruction + 0.1 * sparse(weight=2)``.  Does not import torch.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from reprkit.errors import ReferenceSyntaxError
from reprkit.registry.constraints import short_repr

NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_DISTRIBUTION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_NUMBER = re.compile(r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_HALF_NUMBER = re.compile(r"\s*(?:\d+(?:\.\d*)?|\.\d+)[eE]")  # the text before the sign of an exponent
_OPEN, _CLOSE = "([{", ")]}"
# Bounds of a reference, which may come from anywhere: texts in it may be long, such as the vocabulary of a tokenizer.
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|"(?:[^"\\]|\\.)*+(?:"|\\?\Z)""", re.DOTALL)
_MAX_LENGTH = 2**22
_MAX_UNQUOTED = 2**16
_MAX_DEPTH = 32
_MAX_INTEGER = 2**63
_MAX_SHOWN = 200


@dataclass(frozen=True)
class Reference:
    """A part's name, its literal keyword arguments and, if qualified, its distribution.

    ``str`` is the inverse of ``parse``: ``parse(str(reference)) == reference`` if the arguments are literals.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    distribution: str | None = None

    @property
    def qualified(self) -> str:
        """``distribution/name``, or the bare name without a distribution."""
        return f"{self.distribution}/{self.name}" if self.distribution else self.name

    def __str__(self) -> str:
        if not self.arguments:
            return self.qualified
        return f"{self.qualified}({', '.join(f'{key}={value!r}' for key, value in self.arguments.items())})"


def parse(text: str) -> Reference:
    """Parse ``name``, ``name(key=literal, ...)`` or ``distribution/name(...)``.

    Raises:
        ReferenceSyntaxError: it is not of that form; the message quotes the invalid piece.
    """
    if not isinstance(text, str):
        raise ReferenceSyntaxError(
            f"a reference is a string such as 'vq(codes=512)', not {type(text).__name__} {short_repr(text)}"
        )
    _check_bounds(text)
    head, bracket, rest = text.partition("(")
    distribution, slash, name = head.strip().rpartition("/")
    if not NAME.fullmatch(name):
        _refuse_name(text, name)
    if slash and not _DISTRIBUTION.fullmatch(distribution):
        _refuse(text, f"{distribution!r} is not the name of a distribution")
    arguments = _parse_arguments(text, bracket + rest) if bracket else {}
    return Reference(name, arguments, distribution if slash else None)


def parse_sum(text: str) -> list[tuple[float, Reference]]:
    """Parse a weighted sum such as ``reconstruction + 0.1 * contractive + 1e-3 * sparse(weight=2)``.

    Raises:
        ReferenceSyntaxError: a term is not ``reference`` or ``weight * reference``, or a weight is negative.
    """
    if not isinstance(text, str):
        raise ReferenceSyntaxError(
            f"a sum is a string such as 'reconstruction + 0.1 * sparse', not {type(text).__name__} {short_repr(text)}"
        )
    _check_bounds(text)
    return [_parse_term(text, piece) for piece in _split(text, "+")]


def _check_bounds(text: str) -> None:
    """Refuse a text that is too long, or has brackets nested too deeply, before it is parsed."""
    if len(text) > _MAX_LENGTH:
        _refuse(text, f"it has {len(text):,} characters, and at most {_MAX_LENGTH:,} are read")
    unquoted = _QUOTED.sub("", text)
    if len(unquoted) > _MAX_UNQUOTED:
        _refuse(
            text,
            f"it has {len(unquoted):,} characters outside of quotes, and at most {_MAX_UNQUOTED:,} are read",
        )
    depth = 0
    for char in unquoted:
        depth += (char in _OPEN) - (char in _CLOSE)
        if depth > _MAX_DEPTH:
            _refuse(text, f"its brackets are nested more than {_MAX_DEPTH} deep")


def _parse_term(whole: str, piece: str) -> tuple[float, Reference]:
    if not piece.strip():
        _refuse(whole, "a term is missing beside '+'")
    weight, *factors = (factor.strip() for factor in _split(piece, "*"))
    top_level = _blank_nested(piece)
    if re.search(r"(?:^|[\s*])-|-(?:\s|$)", top_level):
        _refuse(
            whole,
            f"{piece.strip()!r} has a minus sign, and losses can only be added (dashes in a name have no spaces)",
        )
    if not factors:
        if _NUMBER.fullmatch(weight):
            _refuse(whole, f"{weight!r} is a weight without a term; write {weight} * name")
        if spaced := re.match(rf"({_NUMBER.pattern})\s+(\S.*)", weight, flags=re.DOTALL):
            _refuse(whole, f"a '*' is missing in {weight!r}; write {spaced[1]} * {spaced[2]}")
        return 1.0, parse(weight)
    if len(factors) > 1:
        _refuse(whole, f"{piece.strip()!r} has more than one '*'; a term is weight * name(...)")
    if not _NUMBER.fullmatch(weight):
        swapped = f"; write {factors[0]} * {weight}" if _NUMBER.fullmatch(factors[0]) else ""
        _refuse(whole, f"{weight!r} is in the position of the weight, and is not a number{swapped}")
    if not math.isfinite(float(weight)):
        _refuse(whole, f"the weight {weight!r} is not finite")
    return float(weight), parse(factors[0])


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator outside brackets and quotes, but not at the sign of an exponent (``1e+3``)."""
    pieces, start = [], 0
    for index, char in enumerate(_blank_nested(text)):
        if char != separator:
            continue
        exponent = text[index + 1 : index + 2].isdigit() and _HALF_NUMBER.fullmatch(text, start, index)
        if not exponent:
            pieces.append(text[start:index])
            start = index + 1
    return [*pieces, text[start:]]


def _blank_nested(text: str) -> str:
    """Replace everything inside brackets and quotes by underscores, keeping all positions."""
    blanked: list[str] = []
    depth, quote, escaped = 0, "", False
    for char in text:
        inside = bool(quote) or depth > 0
        if quote:
            if not escaped and char == quote:
                quote = ""
            escaped = char == "\\" and not escaped
        elif char in "'\"":
            quote, inside = char, True
        elif char in _OPEN:
            depth, inside = depth + 1, True
        elif char in _CLOSE:
            depth = max(0, depth - 1)
        blanked.append("_" if inside else char)
    return "".join(blanked)


def _parse_arguments(text: str, call: str) -> dict[str, Any]:
    """Parse the keyword arguments of ``(...)``, without the name: ast would read its dashes as subtraction."""
    source = f"f{call.rstrip()}"
    try:
        node = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or type(error).__name__
        raise _error(text, f"{_shorten(call.strip())!r} cannot be read ({reason})") from None
    entire = ast.get_source_segment(source, node) == source  # otherwise the rest is a comment
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and entire):
        _refuse(text, f"{call.strip()!r} is more than one pair of brackets with key=value in it")
    if node.args:
        piece = ast.get_source_segment(source, node.args[0])
        _refuse(text, f"{piece!r} has no key; write key=value")
    arguments: dict[str, Any] = {}
    for argument in node.keywords:
        if argument.arg is None:
            _refuse(text, f"'**{ast.get_source_segment(source, argument.value)}' is not key=value")
        if argument.arg in arguments:
            _refuse(text, f"{argument.arg!r} is given twice")
        try:
            arguments[argument.arg] = _literal_value(text, source, argument.value)
        except RecursionError:
            raise _error(text, f"the value of {argument.arg!r} is nested too deeply") from None
    return arguments


def _literal_value(text: str, source: str, node: ast.expr) -> Any:
    """Return the value of a literal without evaluating or compiling anything."""

    def value_of(child: ast.expr) -> Any:
        return _literal_value(text, source, child)

    match node:
        case ast.Constant(value=bool() | str() | None as value):
            return value
        case ast.Constant(value=int() as value) if value >= _MAX_INTEGER:
            _refuse(text, "an integer in it has more than 64 bits")
        case ast.Constant(value=int() | float() as value) if math.isfinite(value):
            return value
        case ast.UnaryOp(
            op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as value)
        ) if not isinstance(value, bool) and value < _MAX_INTEGER and math.isfinite(value):
            return -value if isinstance(sign, ast.USub) else value
        case ast.Tuple(elts=elements):
            return tuple(value_of(element) for element in elements)
        case ast.List(elts=elements):
            return [value_of(element) for element in elements]
        case ast.Dict(keys=keys, values=values) if None not in keys:
            try:
                return {
                    value_of(key): value_of(value) for key, value in zip(keys, values, strict=True) if key
                }
            except TypeError:  # a list as a key
                pass
    _refuse(text, f"{ast.get_source_segment(source, node) or ast.dump(node)!r} is not a literal")


def _refuse_name(text: str, name: str) -> NoReturn:
    if not name:
        _refuse(text, "it has no name")
    plain = re.sub(r"[_\s]+", "-", name.lower()).strip("-")
    if ":" in name or "." in name:
        hint = " A class of your own is passed as an instance, or offered by a plugin under a name."
    else:
        hint = f" Did you mean {plain!r}?" if NAME.fullmatch(plain) else ""
    _refuse(text, f"{name!r} is not a part's name (lower-case letters, digits and dashes).{hint}")


def _error(text: str, reason: str) -> ReferenceSyntaxError:
    return ReferenceSyntaxError(
        f"cannot read the reference {_shorten(text)!r}: {_shorten(reason, 2 * _MAX_SHOWN)}\n"
        "  a reference is a name and literal keyword arguments: numbers, strings, True, False, None,\n"
        "  tuples, lists, dicts of these\n"
        "  for example: vq(codes=512, dim=64)"
    )


def _shorten(text: str, length: int = _MAX_SHOWN) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def _refuse(text: str, reason: str) -> NoReturn:
    raise _error(text, reason)
