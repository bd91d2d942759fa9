import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("reprkit_compress")

ROOT = Path(__file__).parents[2]
TEXT = "the quick brown fox jumps over the lazy dog and runs away from the big brown bear\n"


def run_recipe(name, *args):
    done = subprocess.run(
        [sys.executable, str(ROOT / "recipes" / f"{name}.py"), *map(str, args)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_text_is_smaller_than_by_xz_and_comes_back(tmp_path):
    (tmp_path / "train").mkdir()
    words = TEXT.split()
    for part, (name, count) in enumerate({"train/a.txt": 3000, "test.txt": 1200}.items()):
        order = random.Random(part).choices(words, k=count)
        (tmp_path / name).write_text(" ".join(order))
    out = tmp_path / "out"
    run_recipe(
        "compress_text", "--train", tmp_path / "train", "--test", tmp_path / "test.txt", "--steps", 200, "--window", 32,
        "--decoder", "gru(width=48)", "--out", out,
    )  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    sizes = {name: row["bytes"] for name, row in results.items()}
    assert sizes["gru(width=48)"] < min(sizes["xz"], sizes["bz2"])
    assert (out / "test.txt").read_bytes() == (tmp_path / "test.txt").read_bytes()


@pytest.mark.slow
def test_more_codebooks_are_a_higher_rate_and_another_copy(tmp_path):
    pytest.importorskip("reprkit_audio")
    out = tmp_path / "out"
    run_recipe(
        "compress_speech", "--steps", 30, "--critic-from", 29, "--batch", 4, "--codebooks", 4, "--rates", 1, "--rates", 4,
        "--seconds", 6, "--out", out,
    )  # fmt: skip
    rows = json.loads((out / "results.json").read_text())
    one, four = rows["1 codebooks"], rows["4 codebooks"]
    # 500 bit/s for each codebook at most: after so few steps the tables know most symbols.
    assert one["kbit_s"] < 0.8
    assert one["kbit_s"] + 0.05 < four["kbit_s"] < 2.4
    assert 0 < four["mel_db"] < 60  # whether it is nearer is a question of training
    if "Opus" in rows:  # where libsndfile writes it
        assert 5 < rows["Opus"]["kbit_s"] < 7
    assert (out / "sound" / "000-4.wav").read_bytes() != (out / "sound" / "000-1.wav").read_bytes()
