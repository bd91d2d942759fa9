"""Every file below a folder is accounted for: read, ignored by a rule, or unreadable; links are followed, loops are not."""

import json
import os

import numpy as np
import pytest
import soundfile
from PIL import Image

import reprkit as rk
from reprkit.data.folders import count_suffixes, find_files
from reprkit.errors import DataError


def write_png(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 7), "red").save(path)


def write_wav(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(16_000) / 9).astype(np.float32), 16_000)


@pytest.fixture
def mixed(tmp_path):
    """A folder with two files to read, and one of everything else; a second folder that it links to."""
    root, other = tmp_path / "set", tmp_path / "other"
    for path in (root / "a/1.png", other / "deep/2.png"):
        write_png(path)
    (root / "a/notes.csv").write_text("")
    (root / "README").write_text("")
    (root / ".hidden").mkdir()
    write_png(root / ".hidden/3.png")
    (root / "linked").symlink_to(other)
    (root / "file.png").symlink_to(other / "deep/2.png")
    (root / "a/loop").symlink_to(root)
    (root / "again").symlink_to("a")
    (root / "gone.png").symlink_to("nothing.png")
    (root / "self.png").symlink_to("self.png")
    os.mkfifo(root / "pipe.png")
    return root


def test_files_of_a_folder_are_accounted_for(mixed):
    found = find_files(mixed, {".png"}, "images")
    assert found.names == ["a/1.png", "file.png", "linked/deep/2.png"]
    assert found.facts() == {
        "ignored_count": 6,
        "ignored": {
            "link to a folder that is read already": {"count": 2, "names": ["a/loop", "again"]},
            "hidden": {"count": 1, "names": [".hidden"]},
            "pipe, device or socket": {"count": 1, "names": ["pipe.png"]},
            "suffix .csv": {"count": 1, "names": ["a/notes.csv"]},
            "without a suffix": {"count": 1, "names": ["README"]},
        },
    }
    names = [name for name, _ in found.unreadable]
    assert names == ["gone.png", "self.png"]
    assert found.unreadable[0][1] == "it is a link to a file that does not exist"
    assert count_suffixes(mixed) == {".png": 5, ".csv": 1, "": 1}


def test_links_between_folders_end(tmp_path):
    """Two folders that link to each other have an infinite number of paths."""
    for name in "ab":
        write_png(tmp_path / name / "1.png")
        for link in range(4):
            (tmp_path / name / f"link{link}").symlink_to(tmp_path / ("b" if name == "a" else "a"))
    found = find_files(tmp_path, {".png"}, "images")
    assert found.names == ["a/1.png", "b/1.png"]
    assert found.counts() == [("link to a folder that is read already", 8)]


def test_a_corpus_of_links_is_read(tmp_path):
    write_wav(tmp_path / "real/one/1.wav")
    write_wav(tmp_path / "real/two/2.wav")
    (tmp_path / "chosen").mkdir()
    for name in ("one", "two"):
        (tmp_path / "chosen" / name).symlink_to(tmp_path / "real" / name)
    data = rk.dataset(f"audio(root={str(tmp_path / 'chosen')!r}, labels=True)")
    assert data.files == ["one/1.wav", "two/2.wav"]
    assert data.facts["classes"] == ["one", "two"]


def test_facts_summary_and_page_say_what_was_not_read(mixed, tmp_path, capsys):
    data = rk.dataset(mixed, max_corrupt=0.5)
    described = json.loads(json.dumps(data.split()[0].describe()))
    assert (described["size"], described["of"]) == (2, 3)
    assert (described["ignored_count"], described["skipped_count"]) == (6, 2)
    text = data.summary()
    assert "unreadable: 2 (gone.png: it is a link to a file that does not exist)" in text
    assert "ignored: 2 link to a folder that is read already, 1 hidden" in text
    with pytest.raises(DataError, match=r"(?s)only 3 of the 5 images.*gone\.png: it is a link"):
        rk.dataset(mixed)
    for name in ("gone.png", "self.png"):
        (mixed / name).unlink()
    capsys.readouterr()
    rk.dataset(mixed)
    assert "3 examples; ignored: 2 link" in capsys.readouterr().err


def test_a_folder_without_data_says_what_it_holds(mixed):
    with pytest.raises(DataError, match=r"(?s)holds no things \(\.bin\).*5 \.png|3 \.png"):
        find_files(mixed, {".bin"}, "things")


def test_folder_of_arrays_names_the_others(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((4, 2)))
    (tmp_path / "notes.md").write_text("")
    (tmp_path / "old").mkdir()
    np.save(tmp_path / "old/x.npy", np.ones((4, 2)))
    facts = rk.dataset(tmp_path).facts
    assert facts["ignored"] == {
        "in a folder below": {"count": 1, "names": ["old/x.npy"]},
        "suffix .md": {"count": 1, "names": ["notes.md"]},
    }


def test_lines_account_for_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.md").write_text("x")
    (tmp_path / "c.txt").symlink_to("nothing")
    with pytest.raises(DataError, match=r"(?s)only 1 of the 2 files.*c\.txt: it is a link"):
        rk.dataset(tmp_path)
    data = rk.dataset(tmp_path, max_corrupt=0.5)
    assert data.facts["skipped"] == [{"name": "c.txt", "why": "it is a link to a file that does not exist"}]
    assert data.facts["ignored"] == {"suffix .md": {"count": 1, "names": ["b.md"]}}


def test_names_of_files_do_not_control_the_terminal(tmp_path, capsys):
    write_png(tmp_path / "1.png")
    (tmp_path / "a\x1b[31m.png").write_bytes(b"no picture")
    (tmp_path / os.fsdecode(b"caf\xe9.cs\x1b")).write_bytes(b"")
    data = rk.dataset(tmp_path, max_corrupt=0.5)
    json.dumps(data.describe())
    assert r"unreadable: 1 (a\x1b[31m.png" in data.summary()
    assert r"ignored: 1 .cs\x1b" in data.summary()
    assert data.summary().isprintable()
