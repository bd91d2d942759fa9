"""Summaries of documents by a saved model: the function, the command, and what people may give them."""

import subprocess
import sys

import pytest
import torch
from reprkit_text import decoded_text, summarize
from reprkit_text.data.debian import Debian
from reprkit_text.decoded_text import text_columns
from typer.testing import CliRunner

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError


@pytest.fixture(scope="module")
def data():
    return Debian(tokenizer="byte-pair(vocab=500, lower=True)", length=30, summary_length=15)


def built(data, latent="text(vocab=500, width=16, length=6, end=0, never=(1, 2, 3))"):
    return rk.build(data=data, encoder="gru(width=16)", latent=latent, decoder="gru(width=16)", seed=1)


@pytest.fixture(scope="module")
def saved(data, tmp_path_factory):
    return built(data).save(tmp_path_factory.mktemp("model") / "model")


def test_summaries_are_those_of_the_data_set_and_in_their_order(data, saved):
    model, few = rk.load(saved), data.subset(range(20))
    made = summarize(model.train(), few.documents, batch=3, length=30)
    assert model.training
    assert made == decoded_text.to_text(decoded_text.write_summaries(model.eval(), few), data.vocabulary)
    assert made == summarize(str(saved), few.documents, length=30)
    assert len(set(made)) > 1
    assert summarize(model, []) == []


def test_documents_of_any_length_and_script(saved):
    long = "a library of functions " * 25_000
    made = summarize(
        str(saved), ["word", long, "каталог программ 目录", "two\n\nparagraphs here", "x" * 5_000]
    )
    assert len(made) == 5
    assert all(made)
    assert not any("\n" in each for each in made)
    assert made[1] == summarize(str(saved), [long[:20_000]])[0]


def test_a_summary_is_not_longer_than_its_document(data, saved):
    words = data.vocabulary
    (made,) = summarize(str(saved), ["library"])
    assert len(words.encode("library")) == 1
    assert made in {words.decode([symbol]).strip() for symbol in range(words.size)}
    (longer,) = summarize(str(saved), ["library library library"])
    assert len(longer) > len(made)


def test_what_cannot_be_summarised_is_named(data, saved, tmp_path):
    with pytest.raises(DataError, match="document 1 is empty"):
        summarize(str(saved), ["a tool", "  \n"])
    with pytest.raises(DataError, match="document 0 is int"):
        summarize(str(saved), [3])
    with pytest.raises(PartArgumentError, match="batch"):
        summarize(str(saved), ["a"], batch=0)
    with pytest.raises(BuildError, match="latent text"):
        summarize(built(data, "vq(codes=4, dim=8)"), ["a tool"])
    with pytest.raises(BuildError, match="content"):
        summarize(str(saved), ["a tool"], factor="content")
    tokens = rk.data.Arrays({"x": torch.randint(7, (4, 5))}, vocabs={"x": 7})
    with pytest.raises(BuildError, match="vocabulary"):
        summarize(built(tokens, "text(vocab=7, width=16, length=4)"), ["a tool"])
    characters = Debian(tokenizer="characters", length=30, summary_length=15)
    latent = f"text(vocab={characters.vocabulary.size}, width=16, length=6)"
    with pytest.raises(DataError, match="unknown"):
        summarize(built(characters, latent), ["ᚠᚢᚦᚨᚱᚲ"])


def command(folder, raw, *options):
    from reprkit_text.commands import text

    return CliRunner().invoke(text, ["summarize", str(folder), *options], input=raw)


def test_the_command_writes_a_line_for_each_line(data, saved):
    documents = [" ".join(each.split()) for each in data.documents[:5]]
    raw = "\n".join([documents[0], "", *documents[1:], "word"]).encode()
    done = command(saved, raw, "--batch", "2", "--length", "30")
    assert done.exit_code == 0, done.output
    lines = done.stdout.split("\n")
    assert lines[1] == ""
    made = summarize(str(saved), [*documents, "word"], length=30)
    assert [lines[0], *lines[2:-1]] == made


def test_the_command_names_a_line_that_is_no_text(saved):
    done = command(saved, b"a tool\ncaf\xe9 tools\n")
    assert isinstance(done.exception, DataError)
    assert "line 2 is no valid UTF-8" in str(done.exception)
    assert done.stdout == command(saved, b"a tool\n").stdout, "what came before it is not lost"
    assert command(saved, b"").stdout == ""
    assert command(saved, "\ufeffa tool\n".encode()).stdout == command(saved, b"a tool\n").stdout


@pytest.mark.slow
def test_it_is_found_as_a_command(saved):
    done = subprocess.run(
        [sys.executable, "-m", "reprkit", "text", "summarize", str(saved)],
        input=b"a tool that draws\n\nan editor\n",
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.decode().split("\n")) == 4


def test_documents_summaries_and_what_comes_back_stand_side_by_side(data):
    few = data.subset(range(3))
    columns = text_columns(built(data).eval(), few)
    assert list(columns) == ["document", "summary", "reconstruction"]
    assert {len(each) for each in columns.values()} == {3}
    model = built(data, "vq(codes=4, dim=8)").eval()
    columns = text_columns(model, few)
    assert list(columns) == ["document", "reconstruction"]
    batch = few.batch([0])
    with torch.no_grad():
        drawn = model.generate(model.encode(batch), length=30, temperature=0.0).x[0, :, 0].long()
    kept = drawn[: int(batch["x_mask"].sum())]
    assert columns["reconstruction"][0] == " ".join(data.vocabulary.decode(kept).split())
