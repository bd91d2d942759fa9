import ast
import random

import pytest
import torch
from brute_force import derivations
from reprkit_structure.layers.python_rules import (
    expression_of,
    form_of,
    phrases_of,
    pieces_of,
    python_rules,
    rules_of,
    steps_of,
)
from reprkit_structure.layers.rules import Machine, Rules

from reprkit.errors import DataError, PartArgumentError

SOURCES = [
    "max(items) + 3", "a.b.c", "f(x, y=1, z_2='s')", "not a and b or c", "a if b else c", "[a, (b,), ()]", "x[1, -2]",
    "a < b", "a is not None", "(a, b)[0](c)", "-(1 + a) ** ~b", "1 .real", "(yes == no) == maybe", "f()()[g(1)]",
]  # fmt: skip


def rules_for(sources):
    steps = [step for source in sources for step in steps_of(ast.parse(source, mode="eval").body)]
    pieces = sorted({name for symbol, name in steps if symbol in ("name", "pieces") and name[0] != "<"})
    return python_rules(pieces, sorted({name for symbol, name in steps if symbol == "constant"}))


@pytest.mark.parametrize("source", SOURCES)
def test_expressions_and_derivations_are_inverse(source):
    rules = rules_for(SOURCES)
    derivation = [rules.find[step] for step in steps_of(ast.parse(source, mode="eval").body)]
    assert ast.unparse(expression_of(rules, derivation)) == ast.unparse(ast.parse(source))


def test_every_tree_within_the_limit_can_be_written_and_no_other():
    rules = python_rules(["a"], ["1"])
    for length in (2, 3, 4, 5):
        machine, expected = Machine(rules, length), {tuple(each) for each in derivations(rules, length)}
        found, waiting = set(), [()]
        while waiting:
            prefix = waiting.pop()
            state = machine.begin(1)
            for rule in prefix:
                state = machine.advance(state, torch.tensor([rule]))
            if bool(state.done):
                found.add(prefix)
                continue
            allowed = machine.allowed(state.top()[:, 0], length - len(prefix) - state.needed, state.done)[0]
            assert bool(allowed.any())
            waiting += [(*prefix, rule) for rule in allowed.nonzero().flatten().tolist()]
        assert found == expected


def test_is_whole_rejects_incomplete_and_invalid_derivations():
    rules = python_rules(["a"], ["1"])
    machine = Machine(rules, 6)
    for derivation in derivations(rules, 4):
        assert bool(
            machine.is_whole(torch.tensor([derivation]), torch.ones(1, len(derivation), dtype=torch.bool))
        )
        for wrong in (derivation[:-1], [*derivation, 0], [derivation[0], derivation[0], *derivation[2:]]):
            rows = torch.tensor([wrong])
            assert not bool(machine.is_whole(rows, torch.ones_like(rows, dtype=torch.bool))) or wrong in [
                list(each) for each in derivations(rules, 6)
            ]


def test_reading_gives_the_rule_above_and_the_place():
    rules = rules_for(["a + 1"])
    derivation = [rules.find[step] for step in steps_of(ast.parse("a + 1", mode="eval").body)]
    above, place, allowed, valid = Machine(rules, 12).read(torch.tensor([[*derivation, 0]]))
    names = [*rules.names, "root"]
    assert [names[rule] for rule in above[0, :-1]] == [
        "root",
        "BinOp",
        "Name",
        "a",
        "BinOp",
        "BinOp",
        "Constant",
    ]
    assert place[0, :-1].tolist() == [0, 0, 0, 0, 1, 2, 0]
    assert valid.tolist() == [[True] * 7 + [False]]
    assert allowed[0, torch.arange(7), derivation].all()


def test_brackets_of_an_expression():
    rules = rules_for(["f(a, b) + 1"])
    derivation = [rules.find[step] for step in steps_of(ast.parse("f(a, b) + 1", mode="eval").body)]
    assert dict(phrases_of(rules, derivation)) == {
        ("BinOp", 0, 4): 1, ("Call", 0, 2): 1, ("Name", 0, 0): 1, ("Name", 1, 1): 1, ("Name", 2, 2): 1, ("Constant", 4, 4): 1,
    }  # fmt: skip


def test_names_are_joined_again_and_never_a_keyword():
    for name in ("read_line", "is_open", "__init__", "_a", "a__b", "x2", "not_in_x", "from_bytes"):
        pieces = pieces_of(name)
        assert "_".join(pieces) == name
        assert ast.parse(pieces[0], mode="eval").body.id == pieces[0]
    rules = python_rules(["is", "2", "a"], [])
    assert ("name", "a") in rules.find
    assert not {("name", "is"), ("name", "2")} & set(rules.find)


@pytest.mark.parametrize("source", ["lambda: a", "a < b < c", "f(**a)", "f(*a)", "{1: 2}", "f'{a}'", "é"])
def test_what_the_rules_do_not_cover_is_refused(source):
    with pytest.raises(DataError, match="the rules cover no"):
        steps_of(ast.parse(source, mode="eval").body)


def test_wrong_grammars_are_refused():
    with pytest.raises(PartArgumentError, match="no rule replaces b"):
        Rules([("x", "a", ("b",))], "a")
    with pytest.raises(PartArgumentError, match="never be replaced by leaves"):
        Rules([("x", "a", ("a",))], "a")
    with pytest.raises(PartArgumentError, match="same name"):
        Rules([("x", "a", ()), ("x", "a", ("a",))], "a")
    with pytest.raises(PartArgumentError, match="length=1 is too few"):
        Machine(python_rules(["a"], ["1"]), 1)
    with pytest.raises(DataError, match="is no constant"):
        python_rules(["a"], ["b"])
    with pytest.raises(DataError, match="is no piece"):
        python_rules(["a.b"], ["1"])
    with pytest.raises(DataError, match="derivations of a grammar"):
        rules_of("image(size=3)")


def test_the_form_holds_the_vocabulary():
    form = form_of(["a", "b"], ["1", "'two'"])
    assert rules_of(form).names == python_rules(["a", "b"], ["1", "'two'"]).names


def test_random_writing_is_always_parsed():
    rules, draw = rules_for(SOURCES), random.Random(0)
    machine = Machine(rules, 20)
    for _ in range(40):
        state, written = machine.begin(1), []
        while not bool(state.done):
            allowed = machine.allowed(state.top()[:, 0], 20 - len(written) - state.needed, state.done)[0]
            written.append(draw.choice(allowed.nonzero().flatten().tolist()))
            state = machine.advance(state, torch.tensor(written[-1:]))
        tree = expression_of(rules, written)
        assert ast.dump(ast.parse(ast.unparse(tree), mode="eval").body) == ast.dump(tree)
        assert [rules.find[step] for step in steps_of(tree)] == written
