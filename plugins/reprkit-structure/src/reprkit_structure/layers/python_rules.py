"""Python expressions as derivations: the rules of their syntax trees, and both ways between rules and ``ast``.

The rules cover names, constants, attributes, calls with keywords, unary, binary and boolean operators, comparisons of two values,
subscripts, conditional expressions, lists and tuples.  A name is written in pieces, which underscores join; so ``read_line`` is
two pieces of a vocabulary that has ``read`` and ``line``.  Every derivation is an expression that Python's own parser accepts.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from reprkit.errors import DataError
from reprkit.registry.references import Reference, parse
from reprkit_structure.layers.rules import Rules

END, MORE = "<end>", "<more>"  # of a list: nothing follows, or one more element
FORM = "python-expression"  # of a field of derivations: its arguments are the vocabulary

_OPERATORS: dict[str, tuple[type[ast.AST], ...]] = {
    "operator": (
        ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow,
        ast.LShift, ast.RShift, ast.BitOr, ast.BitXor, ast.BitAnd, ast.MatMult,
    ),
    "unary": (ast.USub, ast.UAdd, ast.Not, ast.Invert),
    "boolean": (ast.And, ast.Or),
    "comparison": (
        ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Is, ast.IsNot, ast.In, ast.NotIn,
    ),
}  # fmt: skip
_EXPRESSIONS: dict[str, tuple[str, ...]] = {
    "Name": ("name",),
    "Constant": ("constant",),
    "Attribute": ("expr", "name"),
    "Call": ("expr", "exprs", "keywords"),
    "BinOp": ("expr", "operator", "expr"),
    "UnaryOp": ("unary", "expr"),
    "BoolOp": ("boolean", "expr", "expr", "exprs"),
    "Compare": ("expr", "comparison", "expr"),
    "Subscript": ("expr", "expr"),
    "IfExp": ("expr", "expr", "expr"),
    "List": ("exprs",),
    "Tuple": ("exprs",),
}
_PIECE = re.compile(r"[A-Za-z0-9_]+")


def python_rules(pieces: Sequence[str], constants: Sequence[str]) -> Rules:
    """Return the rules over a vocabulary.

    Args:
        pieces: of names; one that is no name by itself, such as "2", never begins a name.
        constants: as Python writes them, ``repr``: numbers that are not negative, strings, None, True, False.

    Raises:
        DataError: a piece or a constant that Python does not read, or no piece that can begin a name.
    """
    for piece in pieces:
        if not _PIECE.fullmatch(piece):
            raise DataError(f"{piece!r} is no piece of a name: letters, digits and underscores")
    for constant in constants:
        try:
            value = ast.parse(constant, mode="eval").body
        except SyntaxError:
            value = ast.Name(id="")
        if not isinstance(value, ast.Constant):
            raise DataError(f"{constant!r} is no constant")
    rules: list[tuple[str, str, tuple[str, ...]]] = [
        (name, "expr", right) for name, right in _EXPRESSIONS.items()
    ]
    for several, one in (("exprs", ("expr",)), ("keywords", ("name", "expr"))):
        rules += [(END, several, ()), (MORE, several, (*one, several))]
    rules += [(each.__name__, kind, ()) for kind, all_ in _OPERATORS.items() for each in all_]
    rules += [(piece, "name", ("pieces",)) for piece in pieces if _begins(piece)]
    rules += [(END, "pieces", ()), *((piece, "pieces", ("pieces",)) for piece in pieces)]
    rules += [(constant, "constant", ()) for constant in constants]
    if not constants:
        rules = [rule for rule in rules if rule[0] != "Constant"]
    return Rules(rules, "expr")


def _begins(piece: str) -> bool:
    return piece.isidentifier() and piece.isascii() and not keyword.iskeyword(piece)


def form_of(pieces: Sequence[str], constants: Sequence[str]) -> str:
    """Return ``Field.form`` of derivations over a vocabulary."""
    return str(Reference(FORM, {"pieces": list(pieces), "constants": list(constants)}))


def rules_of(form: str | None) -> Rules:
    """Return the rules that a field's form names.

    Raises:
        DataError: the field holds something else than derivations.
    """
    reference = None if form is None else parse(form)
    if reference is None or reference.name != FORM:
        held = "symbols without rules" if form is None else f"values of the form {form.partition('(')[0]!r}"
        raise DataError(
            f"this field holds {held}, and trees need derivations of a grammar: use data set templates or docstrings"
        )
    return python_rules(reference.arguments["pieces"], reference.arguments["constants"])


def pieces_of(name: str) -> tuple[str, ...]:
    """Return the pieces of a name: its parts between underscores where these can be joined again, else the whole name."""
    parts = name.split("_")
    if (
        len(parts) > 1 and all(parts) and keyword.iskeyword(parts[0])
    ):  # "is_open" is not the keyword "is" and a piece
        parts = [f"{parts[0]}_{parts[1]}", *parts[2:]]
    return tuple(parts) if all(parts) and _begins(parts[0]) else (name,)


Step = tuple[str, str]  # of a derivation: the symbol, and the name of the rule that replaces it


def steps_of(node: ast.AST) -> list[Step]:
    """Return the derivation of an expression, as pairs of symbol and rule.

    Raises:
        DataError: the expression has a node that the rules do not cover.
    """
    return list(_steps(node))


def _steps(node: Any) -> Iterator[Step]:
    kind = type(node).__name__
    if kind not in _EXPRESSIONS or getattr(node, "kind", None):
        raise DataError(f"the rules cover no {kind}")
    yield "expr", kind
    if kind == "Name":
        yield from _name(node.id)
    elif kind == "Constant":
        yield "constant", repr(node.value)
    elif kind == "Attribute":
        yield from _steps(node.value)
        yield from _name(node.attr)
    elif kind == "Call":
        yield from _steps(node.func)
        yield from _list(node.args)
        for each in node.keywords:
            if each.arg is None:
                raise DataError("the rules cover no ** in a call")
            yield "keywords", MORE
            yield from _name(each.arg)
            yield from _steps(each.value)
        yield "keywords", END
    elif kind == "BinOp":
        yield from _steps(node.left)
        yield "operator", type(node.op).__name__
        yield from _steps(node.right)
    elif kind == "UnaryOp":
        yield "unary", type(node.op).__name__
        yield from _steps(node.operand)
    elif kind == "BoolOp":
        yield "boolean", type(node.op).__name__
        yield from _steps(node.values[0])
        yield from _steps(node.values[1])
        yield from _list(node.values[2:])
    elif kind == "Compare":
        if len(node.ops) > 1:
            raise DataError("the rules cover no comparison of three values")
        yield from _steps(node.left)
        yield "comparison", type(node.ops[0]).__name__
        yield from _steps(node.comparators[0])
    elif kind == "Subscript":
        yield from _steps(node.value)
        yield from _steps(node.slice)
    elif kind == "IfExp":
        for part in (node.test, node.body, node.orelse):
            yield from _steps(part)
    else:
        yield from _list(node.elts)


def _name(name: str) -> Iterator[Step]:
    if not name.isascii():
        raise DataError(f"the rules cover no name such as {name!r}")
    first, *others = pieces_of(name)
    yield "name", first
    for piece in others:
        yield "pieces", piece
    yield "pieces", END


def _list(nodes: Sequence[ast.expr]) -> Iterator[Step]:
    for node in nodes:
        yield "exprs", MORE
        yield from _steps(node)
    yield "exprs", END


def expression_of(rules: Rules, derivation: Sequence[int]) -> ast.expr:
    """Return the expression of a whole derivation; its source is ``ast.unparse`` of it."""
    waiting = iter(derivation)

    def name() -> str:
        pieces = [rules.names[next(waiting)]]
        while (piece := rules.names[next(waiting)]) != END:
            pieces.append(piece)
        return "_".join(pieces)

    def several() -> list[ast.expr]:
        found = []
        while rules.names[next(waiting)] == MORE:
            found.append(one())
        return found

    def operator(kind: str) -> Any:
        wanted = rules.names[next(waiting)]
        return next(each for each in _OPERATORS[kind] if each.__name__ == wanted)()

    def one() -> Any:
        kind = rules.names[next(waiting)]
        if kind == "Name":
            return ast.Name(name(), ast.Load())
        if kind == "Constant":
            return ast.Constant(ast.literal_eval(rules.names[next(waiting)]))
        if kind == "Attribute":
            return ast.Attribute(one(), name(), ast.Load())
        if kind == "Call":
            called, arguments, keywords = one(), several(), []
            while rules.names[next(waiting)] == MORE:
                keywords.append(ast.keyword(name(), one()))
            return ast.Call(called, arguments, keywords)
        if kind == "BinOp":
            return ast.BinOp(one(), operator("operator"), one())
        if kind == "UnaryOp":
            return ast.UnaryOp(operator("unary"), one())
        if kind == "BoolOp":
            return ast.BoolOp(operator("boolean"), [one(), one(), *several()])
        if kind == "Compare":
            return ast.Compare(one(), [operator("comparison")], [one()])
        if kind == "Subscript":
            return ast.Subscript(one(), one(), ast.Load())
        if kind == "IfExp":
            return ast.IfExp(one(), one(), one())
        return (ast.List if kind == "List" else ast.Tuple)(several(), ast.Load())

    return ast.fix_missing_locations(one())


def phrases_of(rules: Rules, derivation: Sequence[int]) -> Counter[tuple[str, int, int]]:
    """Return the labeled brackets of a derivation: of each expression its kind, and the first and last leaf that it holds.

    Leaves are the rules without a right side other than the end of a list, and the pieces of names.
    """
    waiting, found = iter(derivation), Counter[tuple[str, int, int]]()
    expr, ends = rules.symbols.index("expr"), {place for place, name in enumerate(rules.names) if name == END}
    names = {rules.symbols.index(symbol) for symbol in ("name", "pieces")}

    def walk(leaves: int) -> int:
        rule = next(waiting)
        begin = leaves
        is_leaf = (not rules.right[rule] or rules.left[rule] in names) and rule not in ends
        leaves += is_leaf
        for _ in rules.right[rule]:
            leaves = walk(leaves)
        if rules.left[rule] == expr:
            found[rules.names[rule], begin, leaves - 1] += 1
        return leaves

    walk(0)
    return found
