"""Bad texts: left out by name, rejected, or accepted."""

import pytest
import torch
from reprkit_text.data.documents import Documents
from reprkit_text.data.text import TextData
from story_files import WORDS, stories, write_lines

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError


def test_broken_lines_are_left_out_and_named(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", stories(300))
    broken = [b'{"document": "\xff"}', b"[1]", b'{"document": ""}', b'{"document": " \\u200b\\n"}', b'{"text": "a"}',
              b'{"document": 3}', b"{", b'{"document": "\\ud800"}', b'{"document": "a", "summary": ["b"]}']  # fmt: skip
    with path.open("ab") as file:
        file.write(b"\n".join(broken) + b"\n")
    with pytest.raises(DataError, match=r"(?s)only 300 of the 309 documents.*a.jsonl:301: not valid UTF-8"):
        Documents(path, WORDS)
    data = Documents(path, WORDS, max_corrupt=0.05)
    assert len(data) == 300
    assert data.facts["skipped_count"] == 9
    why = [each["why"] for each in data.facts["skipped"]]
    for place, part in enumerate(
        ("not valid UTF-8", "not an object", "is empty", "is empty", "it has no 'document', only 'text'",
         "int, not a text", "not JSON", "not valid Unicode", "'summary' is list")
    ):  # fmt: skip
        assert part in why[place], why
    for content, message in {"": "only blank lines", '{"document": " "}\n': "is empty"}.items():
        (tmp_path / "b.jsonl").write_text(content)
        with pytest.raises(DataError, match=message):
            Documents(tmp_path / "b.jsonl", WORDS)
    with pytest.raises(DataError, match="no file"):
        Documents(tmp_path / "none.jsonl", WORDS)


def test_without_summaries_there_is_no_field_and_pairs_raise(tmp_path):
    rows = [{"document": each["document"], "sumary": each["summary"]} for each in stories()]
    path = write_lines(tmp_path / "a.jsonl", rows)
    data = Documents(path, WORDS)
    assert list(data.signature) == ["x"]
    assert sum(map(len, data.split(valid=True))) == 12
    test = data.split()[1]
    for call in (test.pairs, lambda: test.shown_summaries, lambda: Documents(path, WORDS, paired=True)):
        with pytest.raises(DataError, match=r"no line has 'summary'. Did you mean 'sumary'"):
            call()
    assert "summary" in Documents(path, WORDS, summary="sumary").signature
    assert "summary" not in Documents(path, WORDS, summary=None).signature


def test_documents_without_a_summary_are_shown_with_another_one(tmp_path):
    rows = [
        each if n % 3 else {"document": each["document"], "summary": None} for n, each in enumerate(stories())
    ]
    path = write_lines(tmp_path / "a.jsonl", rows)
    data = Documents(path, WORDS)
    assert all(len(each["summary"]) for each in data)
    paired = Documents(path, WORDS, paired=True)
    assert len(paired) == 8
    for free, pairs in zip(data.split(seed=2), paired.split(seed=2), strict=True):
        assert set(pairs.documents) < set(free.documents)
    assert len(data.split()[1].pairs()) < len(data.split()[1])


def test_documents_of_one_and_of_100_000_words(tmp_path):
    rows = [*stories(), {"document": "one"}, {"document": "word " * 100_000}]
    data = Documents(write_lines(tmp_path / "a.jsonl", rows), WORDS, length=50)
    assert data.facts["cut_count"] == 1
    assert data.vocabulary.decode(data[12]["x"]) == "one"
    assert len(data[13]["x"]) == 50
    assert len(Documents(tmp_path / "a.jsonl", "characters", length=None)[13]["x"]) == 499_999
    model = rk.build(
        data=data, encoder="gru(width=8)", decoder="gru(width=8, causal=True)", objective="autoregressive"
    )
    assert torch.isfinite(model(data.batch([12, 13])).total)


def test_a_vocabulary_of_another_script_is_rejected(tmp_path):
    (tmp_path / "greek.txt").write_text("Γεια σου κόσμε\nΚαλημέρα\n")
    (tmp_path / "latin.txt").write_text("Hello world\nGood morning\n")
    latin = TextData(tmp_path / "latin.txt", "characters").vocabulary
    with pytest.raises(DataError, match="unknown to characters"):
        TextData(tmp_path / "greek.txt", latin)
    with (tmp_path / "latin.txt").open("a") as file:
        file.write("Good morning, Ω\n")
    assert 0 < TextData(tmp_path / "latin.txt", latin).facts["unknown_share"] < 0.1
    both = TextData(tmp_path, WORDS)
    assert both.text(0) == both.vocabulary.decode(both[0]["x"]) == "Γεια σου κόσμε"


def test_lines_that_are_not_utf8_are_left_out_and_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfgood line\n" * 1 + b"another good line\n" * 200 + b"latin-1: \xe4\n")
    for by, count in (("lines", 201), ("windows", None)):
        data = TextData(path, WORDS, by=by, length=20)
        (skipped,) = data.facts["skipped"]
        assert skipped["name"] == "a.txt:202"
        assert skipped["why"].startswith("not valid UTF-8")
        assert count in (None, len(data))
        with pytest.raises(DataError, match=r"a.txt:202: not valid UTF-8"):
            TextData(path, WORDS, by=by, max_corrupt=0)
    path.write_bytes(b"\xff\n")
    for by in ("lines", "windows"):
        with pytest.raises(DataError, match="none of the 1 lines"):
            TextData(path, WORDS, by=by)
    path.write_text("short")
    with pytest.raises(DataError, match="less than a window"):
        TextData(path, WORDS, by="windows")
    with pytest.raises(PartArgumentError, match="by=.* must be"):
        TextData(path, WORDS, by="pages")
