import io
import json
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest
import torch
from idx_files import write_fashion
from PIL import Image
from reprkit_vision.commands import SOURCES, copy_photos, fetch, fetch_package
from reprkit_vision.data.rcc import read_members

import reprkit as rk
from reprkit.errors import DataError, ReprkitError
from reprkit.utils.cache import cache_folder


def make_archive(files, version=3):
    """A Qt resource archive of path -> (content, compressed), written from the format's description."""
    tree = [{"name": "", "children": {}}]
    for path, content in files.items():
        here = tree[0]
        *folders, last = path.split("/")
        for name in folders:
            here = here["children"].setdefault(name, {"name": name, "children": {}})
        here["children"][last] = {"name": last, "content": content}
    order, place = [tree[0]], 0
    while place < len(order):  # breadth first: the children of a folder lie in a row
        node = order[place]
        if "children" in node:
            node["first"] = len(order)
            order += node["children"].values()
        place += 1
    names, data, entries = b"", b"", b""
    for node in order:
        name = node["name"].encode("utf-16-be")
        at = len(names)
        names += struct.pack(">HI", len(node["name"]), 0) + name
        if "children" in node:
            entries += struct.pack(">IHII", at, 2, len(node["children"]), node["first"])
        else:
            content, compressed = node["content"]
            raw = struct.pack(">I", len(content)) + zlib.compress(content) if compressed else content
            entries += struct.pack(">IHHHI", at, 1 if compressed else 0, 0, 0, len(data))
            data += struct.pack(">I", len(raw)) + raw
        entries += bytes(8 if version >= 2 else 0)
    start = 20
    head = struct.pack(">4I", version, start + len(data), start, start + len(data) + len(entries))
    return b"qres" + head + data + entries + names


def webp(size, mode="RGB", seed=0):
    channels = 4 if mode == "RGBA" else 3
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "webp", lossless=True)
    return file.getvalue()


@pytest.mark.parametrize("version", [1, 3])
def test_archives_are_read(tmp_path, version):
    files = {"a/b/one.txt": (b"1" * 1000, True), "a/two.txt": (b"zwei", False), "ü.txt": (b"", False)}
    path = tmp_path / "some.rcc"
    path.write_bytes(make_archive(files, version))
    assert dict(read_members(path)) == {name: content for name, (content, _) in files.items()}


def test_damaged_archives_raise(tmp_path):
    whole = make_archive({"a/one.txt": (b"1" * 1000, True)})
    path = tmp_path / "some.rcc"
    for content, message in (
        (b"PK" + whole[2:], "is not a Qt resource archive"),
        (whole[: len(whole) - 30], "is damaged"),
        (whole[:30] + b"????" + whole[34:], "is damaged"),
        (b"qres", "is damaged"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            list(read_members(path))


def write_unpacked(folder):
    """Write a small version of the unpacked package."""
    root = "gcompris/src/activities"
    photo = webp((200, 150))
    files = {
        f"{root}/erase/resource/owl.webp": photo,
        f"{root}/erase/resource/owl_again.webp": photo,
        f"{root}/erase/resource/drawn.webp": webp((200, 150), "RGBA"),
        f"{root}/erase/resource/small.webp": webp((60, 60)),
        f"{root}/explore_monuments/resource/france/tower.webp": webp((150, 200), seed=1),
        f"{root}/explore_monuments/resource/india/tower.webp": webp((150, 200), seed=2),
        f"{root}/paintings/resource/monet.webp": webp((200, 150), seed=3),
        f"{root}/erase/Erase.qml": b"code",
    }
    (folder / "usr" / "rcc").mkdir(parents=True)
    archive = make_archive({name: (content, True) for name, content in files.items()})
    (folder / "usr" / "rcc" / "erase.rcc").write_bytes(archive)
    (folder / "usr" / "doc").mkdir()
    (folder / "usr" / "doc" / "copyright").write_text("CC-BY-SA")
    return folder


def test_photographs_are_copied(tmp_path):
    target = tmp_path / "photos"
    target.mkdir()
    assert copy_photos(write_unpacked(tmp_path / "x"), target) == 3
    assert {each.name for each in target.iterdir()} == {
        "erase-owl.webp",
        "explore_monuments-france-tower.webp",
        "explore_monuments-india-tower.webp",
    }


def build_package(tree, name):
    """Build a Debian package of a folder's files, beside it."""
    (tree / "DEBIAN").mkdir()
    control = f"Package: {name}\nVersion: 3\nArchitecture: all\nMaintainer: a <a@b.cd>\nDescription: x\n"
    (tree / "DEBIAN" / "control").write_text(control)
    deb = tree.parent / f"{name}_3_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, deb], check=True, capture_output=True)
    return deb


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="builds a Debian package")
def test_the_command_fetches_from_a_package_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    tree = write_unpacked(tmp_path / "tree")
    deb = build_package(tree, "gcompris-qt-data")
    for _ in range(2):  # the second time over the first
        fetch("photos", deb)
    assert "3 photographs" in capsys.readouterr().out
    names = rk.dataset("photos(fetched=True, size=16, crops=2)").names
    assert names[-3:] == ["erase-owl", "explore_monuments-france-tower", "explore_monuments-india-tower"]
    assert sorted(each.name for each in cache_folder("vision").iterdir()) == ["photos"]
    assert (cache_folder("vision") / "photos" / "copyright").read_text() == "CC-BY-SA"
    (cache_folder("vision") / "photos" / "erase-owl.webp").write_bytes(b"no picture")
    with pytest.raises(DataError, match="erase-owl.webp cannot be read as an image"):
        rk.dataset("photos(fetched=True)")


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="builds a Debian package")
def test_fashion_is_fetched_from_a_package_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="reprkit vision fetch fashion"):
        rk.dataset("fashion")
    tree = tmp_path / "tree"
    pixels, labels = write_fashion(tree / "usr" / "share" / "datasets" / "fashion-mnist")
    (tree / "copyright").write_text("MIT")
    fetch("fashion", build_package(tree, "dataset-fashion-mnist"))
    assert "50 pictures of clothes" in capsys.readouterr().out
    assert (cache_folder("vision") / "fashion" / "copyright").read_text() == "MIT"
    train, test = rk.dataset("fashion").split()
    assert torch.equal(test.batch(range(20))["x"][..., 0], torch.from_numpy(pixels[30:]).float() / 255)
    assert train.batch(range(30))["label"].tolist() == labels[:30].tolist()
    # A damaged package leaves what was there.
    (tree / "usr" / "share" / "datasets" / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    shutil.rmtree(tree / "DEBIAN")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte.gz is not in"):
        fetch("fashion", build_package(tree, "dataset-fashion-mnist"))
    assert len(rk.dataset("fashion")) == 50


def test_errors_of_fetching(tmp_path, monkeypatch):
    with pytest.raises(ReprkitError, match="Did you mean 'photos'"):
        fetch("photo", None)
    (tmp_path / "text.deb").write_text("no package")
    if shutil.which("dpkg-deb"):
        with pytest.raises(ReprkitError, match="dpkg-deb -x .* failed"):
            fetch_package(SOURCES["photos"], tmp_path / "photos", tmp_path / "text.deb")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ReprkitError, match="apt-get is not installed on this machine: .*--deb FILE"):
        fetch_package(SOURCES["photos"], tmp_path / "photos")
    assert not (tmp_path / "photos").exists()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="builds a Debian package")
def test_cut_outs_are_fetched_without_alphabets(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tree" / "usr" / "share" / "tuxpaint" / "stamps"
    for name in ("animals/birds/owl.png", "food/pear.png", "symbols/alphabets/english/a.png"):
        (folder / name).parent.mkdir(parents=True)
        Image.new("RGBA", (8, 8)).save(folder / name)
    names = "A pear.\nde.utf8=Eine Birne.\nfr.utf8=\nnoise\n"
    (folder / "food/pear.txt").write_text(names, encoding="utf-8")
    (folder / "symbols/alphabets/english/a.txt").write_text("A\n")
    fetch("stamps", build_package(tmp_path / "tree", "tuxpaint-stamps-default"))
    assert "2 cut-outs" in capsys.readouterr().out
    target = cache_folder("vision") / "stamps"
    found = {each.name for each in target.iterdir()}
    assert found == {"animals-birds-owl.png", "food-pear.png", "metadata.jsonl"}
    (row,) = (target / "metadata.jsonl").read_text("utf-8").splitlines()
    assert json.loads(row) == {
        "file_name": "food-pear.png",
        "text": "A pear.",
        "en": "A pear.",
        "de": "Eine Birne.",
    }
