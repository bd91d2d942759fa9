"""How an annotation reads in ``reprkit show``: ``Annotated[int, Ge(2)]`` is ``int >= 2``.  From source, nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Callable

_BELOW = {"Ge": "{} <= ", "Gt": "{} < "}
_ABOVE = {"Le": " <= {}", "Lt": " < {}"}
_ALONE = {"Ge": " >= {}", "Gt": " > {}"}
_KEYWORDS = {"ge": "Ge", "gt": "Gt", "le": "Le", "lt": "Lt", "min_length": "MinLen", "max_length": "MaxLen"}
_SAID = {"MinLen": "at least {} long", "MaxLen": "at most {} long", "MultipleOf": "a multiple of {}"}

# What a name stands for, and how the names in that are found; None where it is no alias.
Look = Callable[[str], "tuple[ast.expr, Look] | None"]


def text(annotation: ast.expr, look: Look) -> str:
    """The annotation in words.

    Args:
        annotation: as written.
        look: what a name stands for in the module, such as ``Count`` for ``Annotated[int, Ge(1)]``.
    """
    found = look(annotation.id) if isinstance(annotation, ast.Name) else None
    if found is not None and isinstance(found[0], ast.Subscript | ast.BinOp):
        return text(*found)
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return f"{text(left, look)} | {text(right, look)}"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inside):
            return " | ".join(ast.unparse(each) for each in _listed(inside))
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *constraints])):
            return _bounded(text(kind, look), constraints, look)
        case ast.Subscript(value=generic, slice=inside):
            return f"{ast.unparse(generic)}[{', '.join(text(each, look) for each in _listed(inside))}]"
        case ast.Constant(value=str(quoted)):
            return text(ast.parse(quoted, mode="eval").body, look)
        case ast.Constant(value=value) if value is ...:
            return "..."
    return ast.unparse(annotation)


def _bounded(kind: str, constraints: list[ast.expr], look: Look) -> str:
    found: dict[str, str] = {}
    said: list[str] = []
    for name, value in _called(constraints):
        shown = _value(value, look)
        if name == "Predicate":
            said.append(shown.replace("_", " "))
        elif name in _SAID:
            said.append(_SAID[name].format(shown))
        elif name in _BELOW or name in _ABOVE:
            found[name] = shown
    lowest = next((name for name in _BELOW if name in found), None)
    highest = next((name for name in _ABOVE if name in found), None)
    if lowest and highest:
        kind = _BELOW[lowest].format(found[lowest]) + kind + _ABOVE[highest].format(found[highest])
    elif lowest:
        kind += _ALONE[lowest].format(found[lowest])
    elif highest:
        kind += _ABOVE[highest].format(found[highest])
    return f"{kind} ({', '.join(said)})" if said else kind


def _called(constraints: list[ast.expr]) -> list[tuple[str, ast.expr]]:
    """Name and value of every constraint; those of ``Interval(ge=0, lt=1)`` and ``Len(1, 3)`` one by one."""
    found: list[tuple[str, ast.expr]] = []
    for each in constraints:
        if not isinstance(each, ast.Call):
            continue
        name = ast.unparse(each.func).rpartition(".")[2]
        if name == "Len":
            found += zip(("MinLen", "MaxLen"), each.args, strict=False)
        elif each.args:
            found.append((name, each.args[0]))
        found += [(_KEYWORDS.get(str(word.arg), name), word.value) for word in each.keywords]
    return found


def _value(value: ast.expr, look: Look) -> str:
    known = look(value.id) if isinstance(value, ast.Name) else None
    shown = ast.unparse(known[0] if known is not None else value)
    return shown.replace(" ** ", "**")


def _listed(inside: ast.expr) -> list[ast.expr]:
    return inside.elts if isinstance(inside, ast.Tuple) else [inside]
