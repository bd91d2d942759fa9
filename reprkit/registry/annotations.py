"""Whether a parameter takes a part, read from its annotation: ``str | Corruption``, ``tuple[Objective, ...]``.  Torch-free."""

from __future__ import annotations

import ast
from collections.abc import Sequence

# kind of a part of a model -> its interface
INTERFACES = {
    "encoder": "Encoder",
    "latent": "Latent",
    "decoder": "Decoder",
    "objective": "Objective",
    "corruption": "Corruption",
    "evaluator": "Evaluator",
}
_SEQUENCES = {"list", "tuple", "List", "Tuple", "Sequence", "Iterable", "Collection"}
_MAPPINGS = {"dict", "Dict", "Mapping"}


def accepts_part(annotation: str | None, kind: str, path: Sequence[str] = ()) -> bool:
    """Whether a value of this annotation may be, or hold, a part of a kind.

    The interface must be named: ``Any``, ``object`` and an interface's own base class take no part.

    Args:
        annotation: as written in the source; None where there is none.
        kind: "encoder", "latent", ...
        path: where the part is inside the value: "list" and "dict", from the outermost on; empty for the value itself.
    """
    interface = INTERFACES.get(kind)
    node = None if annotation is None else _parsed(annotation)
    return interface is not None and node is not None and _takes(node, interface, tuple(path))


def _takes(node: ast.expr, interface: str, path: tuple[str, ...]) -> bool:
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _takes(left, interface, path) or _takes(right, interface, path)
        case ast.Constant(value=str(text)):
            inner = _parsed(text)
            return (
                inner is not None and not isinstance(inner, ast.Constant) and _takes(inner, interface, path)
            )
        case ast.Subscript(value=outer, slice=inside):
            name = _name(outer)
            each = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            if name in ("Optional", "Union"):
                return any(_takes(one, interface, path) for one in each)
            if name == "Annotated":
                return _takes(each[0], interface, path)
            if name in _SEQUENCES and path[:1] == ("list",):
                return any(_takes(one, interface, path[1:]) for one in each)
            if name in _MAPPINGS and path[:1] == ("dict",):
                return _takes(each[-1], interface, path[1:])
            return False
        case ast.Name() | ast.Attribute():
            return not path and _name(node) == interface
        case _:
            return False


def _name(node: ast.expr) -> str:
    """The last piece: ``Latent`` of ``reprkit.Latent``."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return None
