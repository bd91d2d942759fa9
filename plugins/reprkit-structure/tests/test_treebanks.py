import pytest
import torch
from reprkit_structure.data.python_source import expressions_of
from reprkit_structure.layers.brackets import brackets_of, chart_of_brackets

import reprkit as rk
from reprkit.errors import DataError

PREPOSITIONS = {"near", "with", "behind", "in"}
ADJECTIVES = {"old", "small", "happy", "green", "quiet"}


def read(source):
    return {" ".join(words): set(spans) for words, spans in expressions_of(source.encode(), 40)}


def test_tokens_and_spans_of_expressions():
    assert read("f(a + 1, *b)") == {
        "name ( name + number , * name )": {(0, 8), (0, 0), (2, 4), (2, 2), (4, 4), (6, 7), (7, 7)}
    }
    # Parentheses are no node; those around the whole are no part of the expression.
    assert read("((a + b) * c)") == {"( name + name ) * name": {(0, 6), (1, 3), (1, 1), (3, 3), (6, 6)}}
    assert read("x = not y  # a comment\n") == {"name": {(0, 0)}, "not name": {(0, 1), (1, 1)}}


def test_strings_lines_and_letters_of_several_bytes():
    assert read('f"{a + b}" % c') == {"string % name": {(0, 2), (0, 0), (2, 2)}}
    assert read('(é +\n   "ü" + b)') == {"name + string + name": {(0, 4), (0, 2), (0, 0), (2, 2), (4, 4)}}


def test_files_that_are_not_python(tmp_path):
    (tmp_path / "bad.py").write_text("a +")
    (tmp_path / "good.py").write_text("b = a + 1\n")
    data = rk.dataset(f"expressions(root={str(tmp_path)!r})")
    assert [data.text(place) for place in range(len(data))] == ["name + number"]
    with pytest.raises(DataError, match="cannot be read as Python"):
        rk.dataset(f"expressions(root={str(tmp_path / 'bad.py')!r})")
    with pytest.raises(DataError, match="read no files"):
        rk.dataset(f"expressions(kind='arithmetic', root={str(tmp_path)!r})")


def test_arithmetic_has_the_precedences_of_python():
    assert read("a + b * c")["name + name * name"] >= {(0, 4), (2, 4)}
    assert read("a ** b ** c")["name ** name ** name"] >= {(0, 4), (2, 4)}
    data = rk.dataset("expressions(kind='arithmetic', size=100, longest=9)")
    assert len({data.text(place) for place in range(100)}) == len(data) == 100
    for place in range(100):
        words, chart = data.text(place).split(), chart_of_row(data[place])
        assert chart[0, len(words) - 1]
        if words[1:2] == ["*"] and words[3:4] in (["+"], ["-"]):
            assert chart[0, 2]


def chart_of_row(row):
    lengths = torch.tensor([len(row["x"])])
    return chart_of_brackets(row["opens"][None], row["closes"][None], lengths)[0]


def test_brackets_and_charts_are_inverse():
    data = rk.dataset("sentences(size=50)")
    for place in range(50):
        chart = chart_of_row(data[place])
        opens, closes = brackets_of(chart)
        assert torch.equal(opens, data[place]["opens"])
        assert torch.equal(closes, data[place]["closes"])
    for opens, closes, message in (([0, 0], [0, 1], "not open"), ([1, 0], [0, 0], "never closed")):
        with pytest.raises(DataError, match=message):
            chart_of_brackets(torch.tensor([opens]), torch.tensor([closes]), torch.tensor([2]))


def constructions(data):
    """For each sentence, which held-out constructions its brackets show, by their first words."""
    for place in range(len(data)):
        words, chart = data.text(place).split(), chart_of_row(data[place])
        found = set()
        for i, j in torch.triu(chart, 1).nonzero().tolist():
            inside = words[i + 1 : j + 1]
            if words[i] in PREPOSITIONS and "who" in inside:
                found.add("relative clause in a prepositional phrase")
            if words[i] == "who" and "that" in inside:
                found.add("clause of speech in a relative clause")
            if words[i] == "that" and ADJECTIVES & set(inside):
                found.add("adjectives in a clause of speech")
        yield found


def test_held_out_constructions_are_held_out():
    seen, held_out = rk.dataset("sentences(size=400)"), rk.dataset("sentences(part='held-out', size=400)")
    assert not any(constructions(seen))
    found = list(constructions(held_out))
    assert all(found)
    assert len(set.union(*found)) == 3
    assert not {seen.text(place) for place in range(400)} & {held_out.text(place) for place in range(400)}
    assert seen.signature == held_out.signature
    assert seen.text(3) == rk.dataset("sentences(size=4)").text(3)
    assert seen.text(3) != rk.dataset("sentences(size=4, seed=1)").text(3)


def test_too_few_expressions_are_an_error():
    with pytest.raises(DataError, match="only 4 different expressions of 2 to 2 tokens"):
        rk.dataset("expressions(kind='arithmetic', shortest=2, longest=2, size=5)")


@pytest.mark.slow
def test_too_few_sentences_are_an_error():
    with pytest.raises(DataError, match="only .* different sentences"):
        rk.dataset("sentences(size=310, longest=3)")
