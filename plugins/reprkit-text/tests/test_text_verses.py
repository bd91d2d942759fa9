"""Verses: SWORD modules, fetching from packages, the data set, and the evaluator of exchanged styles."""

import gzip
import json
import shutil
import struct
import subprocess
import zlib

import pytest
import torch
from reprkit_text import verse_files
from reprkit_text.evaluators.style_exchange import StyleExchange, _next_of_same_style
from reprkit_text.sword import plain_text, read_module

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError

ENTRIES = [
    "", '<milestone type="x-importer"/>', '<div canonical="true" osisID="Gen" sID="gen2" type="book"/>',
    '<chapter n="1" osisID="Gen.1" sID="Gen.1"/> ',
    'In the <w lemma="strong:H7225">beginning</w><note type="x">a <hi>note</hi></note> &amp; then.',
    "<title>Psalm</title>¶ And  the\n earth", "",
    'fourth <div osisID="Gen" eID="gen2" type="book"/>',
    '<chapter n="2" osisID="Gen.2" sID="Gen.2"/>', "Thus",
]  # fmt: skip


def write_module(folder, testament, entries):
    """Write entries as two blocks, as SWORD does."""
    folder.mkdir(parents=True, exist_ok=True)
    half, blocks, packed, places = len(entries) // 2, b"", b"", b""
    for block, part in enumerate((entries[:half], entries[half:])):
        whole, first = b"", len(packed)
        for entry in part:
            raw = entry.encode()
            places += struct.pack("<IIH", block if raw else 0, len(whole) if raw else 0, len(raw))
            whole += raw
        packed += zlib.compress(whole)
        blocks += struct.pack("<III", first, len(packed) - first, len(whole))
    for end, content in (("bzv", places), ("bzs", blocks), ("bzz", packed)):
        (folder / f"{testament}.{end}").write_bytes(content)


def test_a_module_is_read_by_key_without_markup(tmp_path):
    write_module(tmp_path, "ot", ENTRIES)
    write_module(tmp_path, "nt", ["", *(entry.replace("Gen", "Matt") for entry in ENTRIES[1:])])
    verses = read_module(tmp_path)
    assert verses == {
        f"{book}.{key}": text
        for book in ("Gen", "Matt")
        for key, text in {
            "1.1": "In the beginning & then.", "1.2": "And the earth", "1.4": "fourth", "2.1": "Thus",
        }.items()
    }  # fmt: skip
    assert plain_text('<q who="J"/>a<note>b</note>, c') == "a , c".replace(" ,", " ,")
    (tmp_path / "ot.bzz").write_bytes(b"no zlib")
    with pytest.raises(DataError, match="damaged"):
        read_module(tmp_path)
    with pytest.raises(DataError, match="no verses"):
        read_module(tmp_path / "nothing")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_packages_are_read_into_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="reprkit text fetch verses"):
        rk.dataset("verses")
    for number, (package, module) in enumerate(verse_files.TRANSLATIONS.values()):
        root = tmp_path / package
        write_module(root / verse_files._MODULES / module, "ot", ENTRIES[: len(ENTRIES) - number])
        (root / "DEBIAN").mkdir()
        control = (
            f"Package: {package}\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: x\n"
        )
        (root / "DEBIAN" / "control").write_text(control)
        subprocess.run(
            ["dpkg-deb", "-b", str(root), str(tmp_path / f"{package}_1_all.deb")],
            check=True,
            capture_output=True,
        )
    path, count = verse_files.fetch(tmp_path)
    assert count == 3, "Gen.2.1 is not in all of them"
    assert list(verse_files.read(path)) == ["Gen.1.1", "Gen.1.2", "Gen.1.4"]
    path.write_bytes(gzip.compress(b'{"no": "key"}\n'))
    with pytest.raises(DataError, match="damaged"):
        verse_files.read(path)
    with pytest.raises(rk.ReprkitError, match=r"no sword-text-kjv_\*\.deb"):
        verse_files.fetch(tmp_path / "cache")


@pytest.fixture
def verses(tmp_path, monkeypatch):
    """Forty verses in an old, a new and a third style."""
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path))
    path = verse_files.cached_path()
    path.parent.mkdir(parents=True)
    things = ("sheep", "gold", "wheat", "oil", "wool", "fish", "salt", "wine")
    starts = {"kjv": "thou hast", "web": "you have", "rv": "tienes"}
    rows = [
        {"key": f"Gen.{n // 8 + 1}.{n % 8 + 1}"}
        | {name: f"{start} {things[n // 8]} {things[n % 8]}" for name, start in starts.items()}
        for n in range(40)
    ]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    return "verses(tokenizer='words(min_count=1)')"


def test_an_example_is_a_verse_in_two_translations(verses):
    data = rk.dataset(verses)
    assert len(data) == 80
    assert data.text(0) == ("thou hast sheep sheep", "you have sheep sheep")
    assert data.text(1) == ("you have sheep sheep", "thou hast sheep sheep")
    batch = data.batch([4, 5])
    assert torch.equal(batch["x"][0], batch["other"][1])
    texts = [
        data.vocabulary.decode(row[mask].tolist())
        for row, mask in zip(batch["x"], batch["x_mask"], strict=True)
    ]
    assert texts == ["thou hast sheep wheat", "you have sheep wheat"]
    assert batch["translation"].tolist() == [0, 1]
    assert batch["other_translation"].tolist() == [1, 0]
    assert batch["verse"].tolist() == [2, 2]
    assert torch.equal(data.label_values("verse"), torch.arange(40).repeat_interleave(2))
    assert data.lengths()["x"].tolist() == [4] * 80
    train, test = data.split(seed=0)
    assert not {data.identities()[i] for i in train.indices.tolist()} & {
        data.identities()[i] for i in test.indices.tolist()
    }
    three = rk.dataset(verses.replace("(", "(translations=('kjv', 'web', 'rv'), ", 1))
    assert len(three) == 240
    assert {three.text(i) for i in range(6)} >= {("tienes sheep sheep", "you have sheep sheep")}
    with pytest.raises(PartArgumentError, match="twice"):
        rk.dataset("verses(translations=('kjv', 'kjv'))")


def test_next_of_same_style_returns_other_examples_of_the_same_style():
    styles = torch.tensor([0, 1, 0, 0, 1, 2])
    assert _next_of_same_style(styles).tolist() == [2, 4, 3, 0, 1, 5]


def test_exchanged_styles_are_judged(verses):
    """A writer that writes the true text is judged and kept as the human text is; one that copies, as the unchanged text."""
    pytest.importorskip("sklearn")
    pytest.importorskip("rouge_score")
    data = rk.dataset(verses)
    train, test = data.split(seed=0)
    factors = {
        "meaning": rk.factor("words(dim=8)", input="other"),
        "style": rk.factor("words(dim=8)", pool=True),
    }
    model = rk.build(
        data=train, factors=factors, decoder="pointer(width=8)", objective="reconstruction", seed=0
    )
    evaluator = StyleExchange()
    real = evaluator(model.eval(), test, train)
    assert set(real) == {
        "judged",
        "judged_unchanged",
        "judged_human",
        "kept",
        "kept_unchanged",
        "kept_by_chance",
        "n",
    }
    assert real["judged_human"] == 1.0
    assert real["judged_unchanged"] == 0.0
    assert real["n"] == len(test)
    assert 0.2 < real["kept_unchanged"] < 1, "two of four words differ"
    read = []

    def write(model, data, index, styles):
        batch, given = data.batch(index), data.batch(_next_of_same_style(styles)[index])
        read.append((given["translation"], batch["translation"]))
        return [row[mask].tolist() for row, mask in zip(batch["x"], batch["x_mask"], strict=True)]

    evaluator._write = write
    perfect = evaluator(model, test, train)
    assert perfect["kept"] == 1.0
    assert perfect["judged"] == 1.0
    assert all(torch.equal(one, other) for one, other in read), "the style asked for is that of the true text"
    with pytest.raises(DataError, match="fit_on"):
        StyleExchange()(model, test)
    with pytest.raises(BuildError, match="styl"):
        StyleExchange("styl")(model, test, train)
