"""Small runs of ``recipes/clip.py``, ``image_to_text.py`` and ``unclip.py``, on drawn scenes and on a folder of one's own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import reprkit as rk

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("reprkit_text") is None, reason="needs reprkit-text"),
]


def run_recipe(name, folder, *args):
    command = [
        sys.executable,
        str(ROOT / "recipes" / f"{name}.py"),
        "--out",
        str(folder / "run"),
        *map(str, args),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "REPRKIT_CACHE": str(folder / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, json.loads((folder / "run" / "results.json").read_text())


def album(folder):
    """Thirty pictures of a red or blue half, and their texts."""
    (folder / "album").mkdir()
    for number in range(30):
        picture = np.zeros((16, 16, 3), np.uint8)
        picture[:, : 8 + number // 4, 2 * (number % 2)] = 200
        Image.fromarray(picture).save(folder / "album" / f"{number}.png")
        text = f"{'red' if number % 2 == 0 else 'blue'} part {number}"
        (folder / "album" / f"{number}.txt").write_text(text)
    return "captions(root='album', size=16, tokenizer='byte-pair(vocab=300, marks=True)')"


def test_clip_compares_with_chance(tmp_path):
    args = (
        "--data",
        "drawn-scenes(size=16)",
        "--encoder",
        "conv(width=8, depth=2)",
        "--steps",
        30,
        "--batch",
        32,
    )
    printed, results = run_recipe(
        "clip", tmp_path, *args, "--text-encoder", "transformer(width=16, depth=1, heads=2)"
    )
    assert all(name in printed for name in ("untrained", "trained", "chance", "color_1 by prompts"))
    text = json.dumps(results)
    assert "zero-shot" in text
    assert "The joint space" in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert (tmp_path / "run" / "model" / "reprkit.json").exists()


@pytest.mark.parametrize("latent", ["vq(codes=16, dim=8)", "gaussian(dim=8)"])
def test_clip_on_a_folder_with_another_latent(latent, tmp_path):
    args = ("--data", album(tmp_path), "--label", "", "--latent", latent, "--steps", 4, "--batch", 8)
    printed, _ = run_recipe("clip", tmp_path, *args, "--encoder", "vit(patch=4, width=16, depth=1, heads=2)")
    assert "by prompts" not in printed


def test_image_to_text_writes_sentences(tmp_path):
    args = (
        "--data",
        "drawn-scenes(size=16)",
        "--encoder",
        "conv(width=8, depth=2)",
        "--steps",
        10,
        "--contrastive",
        3,
        "--batch",
        32,
    )
    printed, _ = run_recipe(
        "image_to_text",
        tmp_path,
        *args,
        "--limit",
        40,
        "--decoder",
        "pointer(width=16, reader=0, copy=False)",
    )
    assert "most frequent sentence" in printed
    assert "a small" in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert rk.load(tmp_path / "run" / "contrastive" / "model").factors.keys() == {"image", "text"}
    again = tmp_path / "again"
    again.mkdir()
    start = ("--start", tmp_path / "run" / "contrastive" / "model", "--encoder", "conv(width=8, depth=2)")
    few = ("--steps", 2, "--limit", 20, "--across", 0)
    run_recipe("image_to_text", again, "--data", "drawn-scenes(size=16)", *start, *few)


def test_image_to_text_with_another_latent_and_decoder(tmp_path):
    args = ("--data", album(tmp_path), "--encoder", "conv(width=8, depth=2)", "--steps", 4, "--batch", 8)
    run_recipe(
        "image_to_text",
        tmp_path,
        *args,
        "--latent",
        "vq(codes=16, dim=8)",
        "--contrastive",
        0,
        "--decoder",
        "gru(width=16, causal=True)",
    )


SMALL_SCENES = "drawn-scenes(size=16, objects=1)"


@pytest.mark.parametrize("kind", ["diffusion", "symbols"])
def test_unclip_judges_and_draws(kind, tmp_path):
    args = ["--data", SMALL_SCENES, "--judged", "drawn-scenes(size=16, objects=1, held_out='scenes', seed=1)"]
    for name, value in {"steps": 2, "limit": 8, "lessons": 2, "batch": 16, "labels": "color_1"}.items():
        args += [f"--{name}", value]
    args += ["--encoder", "mlp(width=32)"]
    if kind == "symbols":
        args += ["--prior", "autoregressive", "--decoder", "vq", "--codebook", "fsq(levels=(4, 4))"]
    printed, results = run_recipe("unclip", tmp_path, *args)
    assert all(row in printed for row in ("real pictures", "own vector", "without prior", "with prior"))
    assert ("DDIM, 10 steps" in printed) == (kind == "diffusion")
    assert 0 <= results["with prior"]["test"]["p"] <= 1
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert all(title in page for title in ("Variations of pictures", "From one picture to another"))
