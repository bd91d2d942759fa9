from pathlib import Path

import platformdirs

from reprkit.utils.cache import cache_folder, write_cached


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path))
    assert cache_folder("audio") == tmp_path / "audio"
    monkeypatch.setenv("REPRKIT_CACHE", "~/kept")
    assert cache_folder("audio") == Path.home() / "kept" / "audio"
    monkeypatch.delenv("REPRKIT_CACHE")
    assert cache_folder("audio") == Path(platformdirs.user_cache_dir("reprkit", appauthor=False)) / "audio"


def test_cache_files_are_written_atomically(tmp_path):
    path = tmp_path / "a" / "b" / "c.bin"
    assert write_cached(path, b"one")
    assert write_cached(path, b"two")
    assert path.read_bytes() == b"two"
    assert [each.name for each in path.parent.iterdir()] == ["c.bin"]
    (tmp_path / "file").write_bytes(b"")
    assert not write_cached(tmp_path / "file" / "c.bin", b"three")
