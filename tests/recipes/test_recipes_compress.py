"""Small runs of ``recipes/compress.py`` and ``codec_networks.py`` on crops of photographs: rates, gains, pages and models."""

import subprocess
import sys
from pathlib import Path

import pytest

import reprkit as rk

pytestmark = pytest.mark.slow
pytest.importorskip("reprkit_compress")
pytest.importorskip("reprkit_vision")
pytest.importorskip("skimage")

ROOT = Path(__file__).parents[2]
DATA = ("--data", "photos(size=64, crops=16, side=256)", "--test", "photos(size=128, crops=2, side=256)")


def run(name, out, *flags):
    done = subprocess.run(
        [sys.executable, str(ROOT / f"recipes/{name}.py"), *DATA, "--out", str(out), *map(str, flags)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").exists()
    return done.stdout


def numbers(printed, name):
    """Return a column of the printed table."""
    lines = [line.split() for line in printed.splitlines()]
    start = next(place for place, line in enumerate(lines) if line[:2] == ["rate", "bpp"])
    place, rows = lines[start].index(name), lines[start + 1 :]
    return [float(row[place]) for row in rows if len(row) == len(lines[start])]


def test_one_network_has_several_rates_and_is_better_than_jpeg(tmp_path):
    out = tmp_path / "run"
    printed = run("compress", out, "--steps", 20, "--batch", 4, "--factors", 2.0, "--factors", 0.8)
    (low, high), (worse, better) = numbers(printed, "bpp"), numbers(printed, "psnr")
    assert low < 0.8 * high
    assert worse + 2 < better
    assert min(numbers(printed, "jpeg_gain_db")) > 0.5
    for folder in ("rate-0.5", "rate-1.25"):
        assert rk.load(out / folder).latent().has_tables


def test_networks_around_jpeg_have_its_rates(tmp_path):
    out = tmp_path / "run"
    flags = ("--steps", 20, "--batch", 4, "--quality", 20, "--rates", 15, "--rates", 30)
    printed = run("codec_networks", out, *flags)
    sizes, errors = numbers(printed, "bpp"), numbers(printed, "psnr")
    assert sizes[0] < sizes[1]
    assert errors[0] < errors[1]
    assert rk.load(out / "model").latent().quality == 20
