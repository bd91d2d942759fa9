"""Summarizing documents with a saved model: the function, the command, and unusual input."""

import io
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


def build_model(data, latent="text(vocab=500, width=16, length=6, end=0, never=(1, 2, 3))"):
    return rk.build(data=data, encoder="gru(width=16)", latent=latent, decoder="gru(width=16)", seed=1)


@pytest.fixture(scope="module")
def saved(data, tmp_path_factory):
    return build_model(data).save(tmp_path_factory.mktemp("model") / "model")


def test_summaries_equal_those_of_the_data_set_in_order(data, saved):
    model, subset = rk.load(saved), data.subset(range(20))
    summaries = summarize(model.train(), subset.documents, batch=3, length=30)
    assert model.training
    assert summaries == decoded_text.to_text(
        decoded_text.write_summaries(model.eval(), subset), data.vocabulary
    )
    assert summaries == summarize(str(saved), subset.documents, length=30)
    assert len(set(summaries)) > 1
    assert summarize(model, []) == []


def test_documents_of_any_length_and_script(saved):
    long = "a library of functions " * 25_000
    summaries = summarize(
        str(saved), ["word", long, "каталог программ 目录", "two\n\nparagraphs here", "x" * 5_000]
    )
    assert len(summaries) == 5
    assert all(summaries)
    assert not any("\n" in summary for summary in summaries)
    assert summaries[1] == summarize(str(saved), [long[:20_000]])[0]


def test_a_summary_has_at_most_as_many_symbols_as_its_document(data, saved):
    words = data.vocabulary
    (summaries,) = summarize(str(saved), ["library"])
    assert len(words.encode("library")) == 1
    assert summaries in {words.decode([symbol]).strip() for symbol in range(words.size)}
    (longer,) = summarize(str(saved), ["library library library"])
    assert len(longer) > len(summaries)


def test_unsuitable_documents_and_models_raise(data, saved, tmp_path):
    with pytest.raises(DataError, match="document 1 is empty"):
        summarize(str(saved), ["a tool", "  \n"])
    with pytest.raises(DataError, match="document 0 is int"):
        summarize(str(saved), [3])
    with pytest.raises(PartArgumentError, match="batch"):
        summarize(str(saved), ["a"], batch=0)
    with pytest.raises(BuildError, match="latent text"):
        summarize(build_model(data, "vq(codes=4, dim=8)"), ["a tool"])
    with pytest.raises(BuildError, match="content"):
        summarize(str(saved), ["a tool"], factor="content")
    tokens = rk.data.Arrays({"x": torch.randint(7, (4, 5))}, vocabs={"x": 7})
    with pytest.raises(BuildError, match="vocabulary"):
        summarize(build_model(tokens, "text(vocab=7, width=16, length=4)"), ["a tool"])
    characters = Debian(tokenizer="characters", length=30, summary_length=15)
    latent = f"text(vocab={characters.vocabulary.size}, width=16, length=6)"
    with pytest.raises(DataError, match="unknown"):
        summarize(build_model(characters, latent), ["ᚠᚢᚦᚨᚱᚲ"])


def run_command(folder, raw, *options):
    from reprkit_text.commands import text

    return CliRunner().invoke(text, ["summarize", str(folder), *options], input=raw)


def test_the_command_writes_one_line_per_line(data, saved):
    documents = [" ".join(document.split()) for document in data.documents[:5]]
    raw = "\n".join([documents[0], "", *documents[1:], "word"]).encode()
    result = run_command(saved, raw, "--batch", "2", "--length", "30")
    assert result.exit_code == 0, result.output
    lines = result.stdout.split("\n")
    assert lines[1] == ""
    summaries = summarize(str(saved), [*documents, "word"], length=30)
    assert [lines[0], *lines[2:-1]] == summaries


def test_the_command_names_a_line_that_is_not_utf8(saved):
    result = run_command(saved, b"a tool\ncaf\xe9 tools\n")
    assert isinstance(result.exception, DataError)
    assert "line 2 is not valid UTF-8" in str(result.exception)
    assert result.stdout == run_command(saved, b"a tool\n").stdout, "lines before the error are not lost"
    assert run_command(saved, b"").stdout == ""
    assert run_command(saved, "\ufeffa tool\n".encode()).stdout == run_command(saved, b"a tool\n").stdout


def test_the_command_reads_the_encoding_that_is_marked_or_named():
    from reprkit_text.commands import _decode_lines

    lines = ["größer", "", "ēnd Ċ"]
    text = "\r\n".join(lines) + "\r\n"
    for codec in ("utf-8-sig", "utf-16", "utf-32"):
        assert list(_decode_lines(io.BytesIO(text.encode(codec)))) == lines
    assert list(_decode_lines(io.BytesIO("größer\n".encode("latin-1")), "latin-1")) == ["größer"]
    assert list(_decode_lines(io.BytesIO(text.encode("utf-16-be")), "utf-16-be")) == lines
    with pytest.raises(DataError, match="(?s)line 1: it has NUL characters, as UTF-16-LE.*--encoding NAME"):
        list(_decode_lines(io.BytesIO("Two tools.\nAn editor.\n".encode("utf-16-le"))))
    with pytest.raises(DataError, match="(?s)line 1 is not valid UTF-8.*--encoding latin-1"):
        list(_decode_lines(io.BytesIO("größer\n".encode("latin-1"))))
    with pytest.raises(DataError, match="line 2 has NUL characters"):
        list(_decode_lines(io.BytesIO(b"one\n\0\n")))


@pytest.mark.slow
def test_the_command_is_registered(saved):
    result = subprocess.run(
        [sys.executable, "-m", "reprkit", "text", "summarize", str(saved)],
        input=b"a tool that draws\n\nan editor\n",
        capture_output=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(result.stdout.decode().split("\n")) == 4


def test_text_columns_hold_documents_summaries_and_reconstructions(data):
    subset = data.subset(range(3))
    columns = text_columns(build_model(data).eval(), subset)
    assert list(columns) == ["document", "summary", "reconstruction"]
    assert {len(column) for column in columns.values()} == {3}
    model = build_model(data, "vq(codes=4, dim=8)").eval()
    columns = text_columns(model, subset)
    assert list(columns) == ["document", "reconstruction"]
    batch = subset.batch([0])
    with torch.no_grad():
        generated = model.generate(model.encode(batch), length=30, temperature=0.0).x[0, :, 0].long()
    valid = generated[: int(batch["x_mask"].sum())]
    assert columns["reconstruction"][0] == " ".join(data.vocabulary.decode(valid).split())
