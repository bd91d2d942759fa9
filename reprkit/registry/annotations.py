"""Determine from its annotation whether a parameter accepts a part: ``str | Corruption``, ``tuple[Objective, ...]``.

Does not import torch.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

# kind of a part of a model -> its interface
INTERFACES = {
    "encoder": "Encoder",
    "latent": "Latent",
    "decoder": "Decoder",
    "likelihood": "Likelihood",
    "objective": "Objective",
    "corruption": "Corruption",
    "evaluator": "Evaluator",
}
_SEQUENCES = {"list", "tuple", "List", "Tuple", "Sequence", "Iterable", "Collection"}
_MAPPINGS = {"dict", "Dict", "Mapping"}


def accepts_part(annotation: str | None, kind: str, path: Sequence[str] = ()) -> bool:
    """Whether a value with this annotation may be, or contain, a part of the given kind.

    The annotation must name the interface: ``Any``, ``object`` and an interface's base class do not accept a part.

    Args:
        annotation: its source text; None if there is none.
        kind: "encoder", "latent", ...
        path: position of the part inside the value: "list" and "dict", from the outermost in; empty for the value itself.
    """
    interface = INTERFACES.get(kind)
    node = None if annotation is None else _parse(annotation)
    return interface is not None and node is not None and _accepts(node, interface, tuple(path))


def _accepts(node: ast.expr, interface: str, path: tuple[str, ...]) -> bool:
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _accepts(left, interface, path) or _accepts(right, interface, path)
        case ast.Constant(value=str(text)):
            parsed = _parse(text)
            return (
                parsed is not None
                and not isinstance(parsed, ast.Constant)
                and _accepts(parsed, interface, path)
            )
        case ast.Subscript(value=generic, slice=argument):
            name = _name(generic)
            arguments = argument.elts if isinstance(argument, ast.Tuple) else [argument]
            if name in ("Optional", "Union"):
                return any(_accepts(item, interface, path) for item in arguments)
            if name == "Annotated":
                return _accepts(arguments[0], interface, path)
            if name in _SEQUENCES and path[:1] == ("list",):
                return any(_accepts(item, interface, path[1:]) for item in arguments)
            if name in _MAPPINGS and path[:1] == ("dict",):
                return _accepts(arguments[-1], interface, path[1:])
            return False
        case ast.Name() | ast.Attribute():
            return not path and _name(node) == interface
        case _:
            return False


def _name(node: ast.expr) -> str:
    """Return the last piece of a dotted name: ``Latent`` of ``reprkit.Latent``."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _parse(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return None
