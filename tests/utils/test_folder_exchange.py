"""Atomic replacement of folders and files."""

import os
import time
from pathlib import Path

import pytest

from reprkit.utils import atomic_files
from reprkit.utils.atomic_files import recover_folder, replace_folder, write_text


@pytest.mark.parametrize("exchange", [True, False])
def test_replacing_a_folder_keeps_other_files(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(atomic_files, "_exchange", lambda *_: False)
    place = tmp_path / "a" / "b"
    for text in ("one", "two"):
        with replace_folder(place, own_files=("file", "gone")) as fresh:
            (fresh / "file").write_text(text)
        (place / "other").write_text("stays")
        (place / "gone").write_text("the writer's own, and not written again")
    assert (place / "file").read_text() == "two"
    with replace_folder(place, own_files=("file", "gone")) as fresh:
        (fresh / "file").write_text("three")
    assert {path.name: path.read_text() for path in place.iterdir()} == {"file": "three", "other": "stays"}
    assert [path.name for path in place.parent.iterdir()] == ["b"]


def test_error_keeps_the_old_folder(tmp_path):
    place = tmp_path / "b"
    with replace_folder(place) as fresh:
        (fresh / "file").write_text("one")

    def fail():
        with replace_folder(place) as fresh:
            (fresh / "file").write_text("two")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert (place / "file").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_symbolic_link_is_preserved(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with replace_folder(tmp_path / "link") as fresh:
        (fresh / "file").write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").exists()


def test_old_temporary_folders_are_removed(tmp_path):
    for name, age in ((".b.0.new", 7200), (".b.1.new", 10)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with replace_folder(tmp_path / "b"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"b", ".b.1.new"}


def test_recover_folder_undoes_an_interrupted_replacement(tmp_path):
    (tmp_path / ".b.old").mkdir()
    assert recover_folder(tmp_path / "b").is_dir()
    assert recover_folder(tmp_path / "nothing") == tmp_path / "nothing"


def test_files_are_written_atomically(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.json", "one")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "two")
    assert path.read_text() == "one"
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_reader_that_restores_the_folder_between_two_renames_does_not_stop_the_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_files, "_exchange", lambda *_: False)
    place, rename, restored = tmp_path / "b", Path.rename, []
    place.mkdir()
    (place / "old").write_text("old")

    def read_in_between(self, target):
        result = rename(self, target)
        if Path(target).name == ".b.old" and not restored:
            restored.append(recover_folder(place))
        return result

    monkeypatch.setattr(Path, "rename", read_in_between)
    with replace_folder(place, own_files=("old",)) as fresh:
        (fresh / "file").write_text("new")
    assert restored == [place]
    assert [path.name for path in place.iterdir()] == ["file"]
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
