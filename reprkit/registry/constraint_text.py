"""Format annotations for ``reprkit show``: ``Annotated[int, Ge(2)]`` becomes ``int >= 2``.  Nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Callable

_BELOW = {"Ge": "{} <= ", "Gt": "{} < "}
_ABOVE = {"Le": " <= {}", "Lt": " < {}"}
_SINGLE = {"Ge": " >= {}", "Gt": " > {}"}
_KEYWORDS = {"ge": "Ge", "gt": "Gt", "le": "Le", "lt": "Lt", "min_length": "MinLen", "max_length": "MaxLen"}
_NOTES = {"MinLen": "at least {} long", "MaxLen": "at most {} long", "MultipleOf": "a multiple of {}"}

# Resolves a name to (its value, the resolver of names in that value); None if the name is not an alias.
Resolver = Callable[[str], "tuple[ast.expr, Resolver] | None"]


def format_annotation(annotation: ast.expr, resolve: Resolver) -> str:
    """Format an annotation.

    Args:
        annotation: its syntax tree.
        resolve: looks up an alias in the module, such as ``Count`` for ``Annotated[int, Ge(1)]``.
    """
    alias = resolve(annotation.id) if isinstance(annotation, ast.Name) else None
    if alias is not None and isinstance(alias[0], ast.Subscript | ast.BinOp):
        return format_annotation(*alias)
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return f"{format_annotation(left, resolve)} | {format_annotation(right, resolve)}"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=arguments):
            return " | ".join(ast.unparse(item) for item in _elements(arguments))
        case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *constraints])):
            return _format_constraints(format_annotation(kind, resolve), constraints, resolve)
        case ast.Subscript(value=generic, slice=arguments):
            return f"{ast.unparse(generic)}[{', '.join(format_annotation(item, resolve) for item in _elements(arguments))}]"
        case ast.Constant(value=str(quoted)):
            return format_annotation(ast.parse(quoted, mode="eval").body, resolve)
        case ast.Constant(value=value) if value is ...:
            return "..."
    return ast.unparse(annotation)


def _format_constraints(kind: str, constraints: list[ast.expr], resolve: Resolver) -> str:
    bounds: dict[str, str] = {}
    notes: list[str] = []
    for name, value in _constraint_calls(constraints):
        shown = _format_value(value, resolve)
        if name == "Predicate":
            notes.append(shown.replace("_", " "))
        elif name in _NOTES:
            notes.append(_NOTES[name].format(shown))
        elif (name in _BELOW or name in _ABOVE) and not _is_general(value):
            bounds[name] = shown
    lowest = next((name for name in _BELOW if name in bounds), None)
    highest = next((name for name in _ABOVE if name in bounds), None)
    if lowest and highest:
        kind = _BELOW[lowest].format(bounds[lowest]) + kind + _ABOVE[highest].format(bounds[highest])
    elif lowest:
        kind += _SINGLE[lowest].format(bounds[lowest])
    elif highest:
        kind += _ABOVE[highest].format(bounds[highest])
    return f"{kind} ({', '.join(notes)})" if notes else kind


def _is_general(value: ast.expr) -> bool:
    """Whether a bound is that of all numbers, which is not shown."""
    return any(isinstance(node, ast.Name) and node.id.startswith("LARGEST_") for node in ast.walk(value))


def _constraint_calls(constraints: list[ast.expr]) -> list[tuple[str, ast.expr]]:
    """Return name and value of every constraint, with ``Interval(ge=0, lt=1)`` and ``Len(1, 3)`` split up."""
    calls: list[tuple[str, ast.expr]] = []
    for constraint in constraints:
        if not isinstance(constraint, ast.Call):
            continue
        name = ast.unparse(constraint.func).rpartition(".")[2]
        if name == "Len":
            calls += zip(("MinLen", "MaxLen"), constraint.args, strict=False)
        elif constraint.args:
            calls.append((name, constraint.args[0]))
        calls += [(_KEYWORDS.get(str(keyword.arg), name), keyword.value) for keyword in constraint.keywords]
    return calls


def _format_value(value: ast.expr, resolve: Resolver) -> str:
    alias = resolve(value.id) if isinstance(value, ast.Name) else None
    shown = ast.unparse(alias[0] if alias is not None else value)
    return shown.replace(" ** ", "**")


def _elements(arguments: ast.expr) -> list[ast.expr]:
    return arguments.elts if isinstance(arguments, ast.Tuple) else [arguments]
