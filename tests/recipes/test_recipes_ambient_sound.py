"""Small runs of ``recipes/ambient_sound.py`` on folders of one's own: what it finds, another encoder and latent, refusals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("reprkit_audio")
pytest.importorskip("reprkit_vision")

ROOT = Path(__file__).parents[2]
RATE = 16_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(folder, *flags, expect=0):
    command = [
        sys.executable,
        str(ROOT / "recipes/ambient_sound.py"),
        "--out",
        str(folder / "run"),
        *map(str, flags),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "REPRKIT_CACHE": str(folder / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=800)
    assert done.returncode == expect, done.stderr[-3000:]
    return json.loads((folder / "run/results.json").read_text()) if not expect else done.stderr


@pytest.fixture
def album(tmp_path):
    """Forty pairs: the lighter the picture, the higher the noise's band."""
    rng = np.random.default_rng(0)
    (tmp_path / "album").mkdir()
    for number in range(40):
        shade = number / 39
        picture = np.clip(60 + 150 * shade + rng.normal(0, 4, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "album" / f"{number:02}.png")
        spectrum = np.fft.rfft(rng.normal(size=RATE // 2))
        hertz = np.fft.rfftfreq(RATE // 2, 1 / RATE)
        spectrum *= np.exp(-(((np.log2(hertz + 1) - 8 - 4 * shade) / 0.7) ** 2))
        wave = np.fft.irfft(spectrum)
        soundfile.write(tmp_path / "album" / f"{number:02}.wav", 0.3 * wave / np.abs(wave).max(), RATE)
    return tmp_path


def test_what_can_be_heard_is_found(album):
    data = ("--data", "sounding(root='album', size=16)", "--folds", 2, "--components", 8, "--clusters", 4)
    net = ("--encoder", "conv(width=8, depth=2)", "--steps", 150, "--batch", 20, "--views", "flip")
    found = run(album, *data, *net)
    assert set(found) == {"clusters", "shuffled", "contrastive", "ridge", "chance"}
    recall = {name: row["sounds"]["recall_at_5"] for name, row in found.items()}
    assert recall["chance"] == pytest.approx(0.25)
    assert min(recall["contrastive"], recall["clusters"], recall["ridge"]) > 0.45
    assert recall["contrastive"] > recall["shuffled"] + 0.15
    row = found["contrastive"]["sounds"]
    assert row["over_shuffled"] == pytest.approx(recall["contrastive"] - recall["shuffled"])
    assert row["over_shuffled_error"] > 0
    page = (album / "run/report.html").read_text()
    assert "What excites a unit" in page
    assert page.count("<audio") == 16
    assert (album / "run/contrastive-1/model/reprkit.json").is_file()


def test_another_encoder_and_a_discrete_latent(album):
    data = ("--data", "sounding(root='album', size=16)", "--folds", 2, "--components", 4, "--clusters", 2)
    found = run(
        album, *data, "--encoder", "vit(patch=8, width=16, depth=1, heads=2)", "--latent", "vq(codes=8, dim=4)",
        "--steps", 2, "--batch", 8,
    )  # fmt: skip
    assert 0 <= found["clusters"]["sounds"]["recall_at_5"] <= 1


def test_too_few_names_end_in_one_sentence(album):
    for path in sorted((album / "album").iterdir())[6:]:
        path.unlink()
    assert "3 names of things are too few for --folds 5" in run(
        album, "--data", "sounding(root='album')", expect=1
    )
