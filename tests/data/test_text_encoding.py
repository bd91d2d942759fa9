"""Encodings of texts: byte-order marks, NUL characters, encodings by name, and line ends, in every reader of texts."""

import codecs

import pytest

from reprkit.data import Lines
from reprkit.data.formats.json_lines import JsonLines
from reprkit.data.formats.text_encoding import codec_name, decode_text, read_text
from reprkit.data.formats.text_files import _split
from reprkit.errors import DataError, PartArgumentError

TEXT = (
    "größer, naïve\n\nzweite Zeile\nēnd ਊ Ċ\n"  # two of its characters hold the byte of a line end in UTF-16
)
LINES = ["größer, naïve", "zweite Zeile", "ēnd ਊ Ċ"]
MARKED = {
    "utf-8": codecs.BOM_UTF8,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


def read(data):
    return [bytes(each["x"].tolist()).decode() for each in data]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("codec", MARKED)
def test_a_byte_order_mark_decides(tmp_path, codec, ends):
    file = tmp_path / "a.txt"
    file.write_bytes(MARKED[codec] + TEXT.replace("\n", ends).encode(codec))
    data = Lines(file)
    assert read(data) == [data.text(index) for index in range(3)] == LINES
    assert data.lengths()["x"].tolist() == [len(line.encode()) for line in LINES]
    assert data.facts == ({} if codec == "utf-8" else {"encoding": codec})
    characters = Lines(file, "characters")
    assert "\ufeff" not in characters.alphabet
    assert "\0" not in characters.alphabet
    assert read_text(file) == TEXT


def test_files_of_several_encodings_are_one_data_set(tmp_path):
    for name, codec in (("a", "utf-8"), ("b", "utf-16-le"), ("c", "utf-8"), ("d", "utf-16-be")):
        mark = b"" if codec == "utf-8" else MARKED[codec]
        (tmp_path / f"{name}.txt").write_bytes(mark + TEXT.encode(codec))
    data = Lines(tmp_path)
    assert read(data) == 4 * LINES
    assert data.lengths()["x"].tolist() == 4 * [len(line.encode()) for line in LINES]
    assert data.facts["encoding"] == "utf-16-be, utf-16-le"


def test_encodings_by_name(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("größer\r\nnaïve\r\n".encode("latin-1"))
    with pytest.raises(
        DataError, match=r"(?s)none of the 2 lines.*a\.txt:1: not valid UTF-8.*encoding='latin-1'"
    ):
        Lines(file)
    assert read(Lines(file, encoding="latin-1")) == ["größer", "naïve"]
    file.write_bytes(TEXT.encode("utf-16-le"))
    assert read(Lines(file, encoding="utf-16")) == LINES
    for wrong in ("utf-17", "hex", "cp037"):
        with pytest.raises(PartArgumentError, match="no encoding of texts; usual are"):
            Lines(file, encoding=wrong)
    (tmp_path / "a.jsonl").write_bytes('{"text": "größer"}\n'.encode("utf-16"))
    assert JsonLines(tmp_path / "a.jsonl").record(0) == {"text": "größer"}
    assert codec_name("UTF8") == "utf-8"


def test_nul_characters_are_refused_with_advice(tmp_path):
    file = tmp_path / "a.txt"
    for codec in ("utf-16-le", "utf-16-be"):
        file.write_bytes("An English text.\nOf two lines.\n".encode(codec))
        with pytest.raises(DataError, match=f"{codec.upper()} without a byte-order mark: encoding='{codec}'"):
            Lines(file)
        with pytest.raises(DataError, match=f"encoding='{codec}'"):
            read_text(file)
    file.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(DataError, match="so it is binary data"):
        Lines(file)
    file.write_bytes(b"line\n" * 20_000 + b"with \0\n")
    data = Lines(file)
    assert len(data) == 20_000
    assert data.facts["skipped"] == [{"name": "a.txt:20001", "why": "it has NUL characters"}]


def test_one_file_that_is_no_text_refuses_the_folder(tmp_path):
    """Its one entry among many lines must not pass as 1 %."""
    (tmp_path / "a.txt").write_text("line\n" * 5_000)
    (tmp_path / "b.txt").write_bytes(("line\n" * 5_000).encode("utf-16-le"))
    with pytest.raises(DataError, match=r"(?s)only 1 of the 2 files.*b\.txt: it has NUL characters"):
        Lines(tmp_path)


def test_damaged_characters_are_named(tmp_path):
    content = TEXT.encode("utf-16-le")
    (tmp_path / "a.txt").write_bytes(codecs.BOM_UTF16_LE + content + b"\x00\xd8\n\x00")
    data = Lines(tmp_path / "a.txt", max_corrupt=0.5)
    assert read(data) == LINES
    assert data.facts["skipped"][0]["name"] == "a.txt:5"
    with pytest.raises(DataError, match="not valid utf-16-le"):
        read_text(tmp_path / "a.txt")


def test_line_ends_become_one():
    assert decode_text(b"a\r\nb\rc\n") == "a\nb\nc\n"


def test_wide_lines_are_split_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("reprkit.data.formats.text_files._CHUNK", 6)
    (tmp_path / "a.txt").write_bytes(TEXT.encode("utf-16-be"))
    with (tmp_path / "a.txt").open("rb") as opened:
        found = list(_split(opened, 0, b"\0\n"))
    assert "".join(line.decode("utf-16-be") for _, line in found) == TEXT
    assert [start for start, _ in found] == [0, 28, 30, 56]
