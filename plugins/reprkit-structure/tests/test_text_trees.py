import ast

import pytest
import torch
from reprkit_structure.data.docstrings import Docstrings
from reprkit_structure.data.templates import _OPERATIONS, Templates, _is_held_out
from reprkit_structure.layers.python_rules import expression_of, rules_of

import reprkit as rk
from reprkit.errors import DataError

SOURCE = '''
def read_line(self, file, limit=-1):
    """Read one line of the file.

    More.
    """
    return file.read(limit)

def is_open(file):
    """Tell whether the file is open."""
    if file:
        return True
    return not file.closed

def several(*files):
    """Read all files."""

def odd(x=lambda: 1):
    """Read with a default that the rules do not cover."""
    return x

def naïve(file):
    """Read the file."""

async def read_line(file, limit=-1):
    return file
'''


def test_sentences_say_their_expressions():
    data = Templates(size=300)
    rules = rules_of(data.signature["tree"].form)
    for place in range(len(data)):
        row = data[place]
        assert ast.unparse(expression_of(rules, row["tree"].tolist())) == data.source(place)
        assert " ".join(data.facts["words"][word] for word in row["x"].tolist()) == data.text(place)
    assert len(set(map(data.text, range(300)))) == 300
    assert data.facts["longest_tree"] <= 28


def test_known_sentences():
    data = Templates(size=2000, nested=0)
    found = {data.text(place): data.source(place) for place in range(len(data))}
    known = (
        ("the first of items", "items[0]"),
        ("the end of words", "words[-1]"),
        ("the total of prices", "sum(prices)"),
    )
    for words, source in known:
        assert found.get(words, source) == source
    assert sum(words in found for words, _ in known) >= 1
    swapped = [words for words in found if " subtracted from " in words]
    for words in swapped:
        less, _, more = words.partition(" subtracted from ")
        assert found[words].partition(" - ")[::2] == tuple(map(_atom_source, (more, less)))
    assert len(swapped) > 5


def _atom_source(words):
    """The expression of a name, a number or a field."""
    numbers = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    if words in numbers:
        return str(numbers.index(words))
    the, _, rest = words.partition(" ")
    field, _, name = rest.partition(" of ")
    return f"{name}.{field}" if the == "the" else words


def test_held_out_pairs_are_in_one_part_alone():
    seen, held_out = Templates(size=200, nested=1, longest=60), Templates("held-out", size=200)
    assert seen.signature == held_out.signature
    assert len(seen.facts["held_out"]) == pytest.approx(len(_OPERATIONS) ** 2 / 5, abs=5)
    assert not set(map(held_out.text, range(200))) & set(map(seen.text, range(200)))
    assert _is_held_out(("add", "add"))
    nested = [seen.source(place) for place in range(200)]
    assert not [each for each in nested if each.startswith("len(len(")] or not _is_held_out(
        ("length", "length")
    )
    with pytest.raises(DataError, match="only .* different sentences"):
        Templates("held-out", size=20, nested=0)


def test_docstrings_of_a_file(tmp_path):
    (tmp_path / "a.py").write_text(SOURCE)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "b.py").write_text(SOURCE.replace("file", "other"))
    (tmp_path / "wrong.py").write_text("def :")
    data = Docstrings(root=tmp_path, least=1)
    assert {data.text(place): data.source(place) for place in range(len(data))} == {
        "read one line of the file": "read_line(file, limit=-1)",
        "tell whether the file is open": "is_open(file)",
    }
    assert data.facts["uncovered"] == 2  # a lambda, and a name that is not ASCII
    returned = Docstrings("return", root=tmp_path / "a.py", least=1)
    assert [returned.source(place) for place in range(len(returned))] == ["file.read(limit)", "x"]
    with pytest.raises(DataError, match="no text with an expression"):
        Docstrings(root=tmp_path, least=2)  # every name occurs once


def test_rare_words_are_unknown(tmp_path):
    one = 'def read(file):\n    """Read it {}."""\n'
    (tmp_path / "a.py").write_text("".join(one.format(word) for word in ("now", "later", "once")))
    data = Docstrings(root=tmp_path, least=3)
    assert {data.text(place) for place in range(len(data))} == {"read it <unknown>"}
    first, second = data.split(seed=0)[:2] if len(data) > 3 else (data, data)
    assert first.signature == second.signature


def test_sources_without_docstrings_are_refused(tmp_path):
    (tmp_path / "wrong.py").write_text("def :")
    with pytest.raises(DataError, match="cannot be read as Python"):
        Docstrings(root=tmp_path / "wrong.py")
    (tmp_path / "right.py").write_text("".join(f'def read(file):\n    """Read {n}."""\n' for n in ("a", "b")))
    assert Docstrings(root=tmp_path, least=1).facts["unreadable"] == 1
    (tmp_path / "right.py").unlink()
    (tmp_path / "wrong.py").write_text("x = 1")
    with pytest.raises(DataError, match="docstrings: no text"):
        rk.dataset(f"docstrings(root={str(tmp_path)!r})")


def test_batches_and_parts():
    data = Templates(size=60)
    batch = data.batch(range(5))
    assert torch.equal(batch["tree_mask"].sum(1), data.lengths()["tree"][:5])
    train, test = data.split(seed=0)
    assert len(train) + len(test) == 60
