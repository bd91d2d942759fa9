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


def run_recipe(name, *args, expect=0):
    done = subprocess.run(
        [sys.executable, str(ROOT / "recipes" / f"{name}.py"), *map(str, args)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == expect, done.stderr[-3000:]
    return done.stderr


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
def test_more_codebooks_are_a_higher_rate_and_a_nearer_copy(tmp_path):
    pytest.importorskip("reprkit_audio")
    out = tmp_path / "out"
    run_recipe(
        "compress_speech", "--steps", 60, "--batch", 32, "--rates", 0.5, "--rates", 2, "--seconds", 6, "--out", out,
    )  # fmt: skip
    rows = json.loads((out / "results.json").read_text())
    low, high = rows["0.5 kbit/s"], rows["2 kbit/s"]
    # The rate of the codebooks is a bound of that of the symbols, which the tables make a little cheaper; headers come on top.
    assert 0.3 < low["kbit_s"] < 0.6
    assert 1.4 < high["kbit_s"] < 2.1
    assert high["mel_db"] < low["mel_db"] - 0.4
    assert high["mel_db"] < 6.0  # a codec of waveforms without critics had 6.7 after 1,800 steps
    if "Opus" in rows:  # where libsndfile writes it
        assert 5 < rows["Opus"]["kbit_s"] < 7
    assert (out / "sound" / "2" / "000.wav").is_file()


@pytest.mark.slow
def test_codec_of_waveforms_trains_with_critics_and_more_codebooks_tell_more(tmp_path):
    pytest.importorskip("reprkit_audio")
    out = tmp_path / "out"
    run_recipe(
        "compress_speech", "--preset", "waves", "--steps", 60, "--critic-from", 58, "--batch", 4, "--rates", 0.5, "--rates", 2,
        "--seconds", 6, "--out", out,
    )  # fmt: skip
    rows = json.loads((out / "results.json").read_text())
    assert rows["2 kbit/s"]["mel_db"] < rows["0.5 kbit/s"]["mel_db"]
    assert (out / "sound" / "2" / "000.wav").read_bytes() != (out / "sound" / "0.5" / "000.wav").read_bytes()


@pytest.mark.slow
def test_codec_of_speech_refuses_rates_that_no_number_of_codebooks_gives(tmp_path):
    pytest.importorskip("reprkit_audio")
    assert "0.5 kbit/s" in run_recipe("compress_speech", "--rates", 0.1, "--out", tmp_path, expect=2)
    same = run_recipe("compress_speech", "--rates", 1.5, "--rates", 1.6, "--out", tmp_path, expect=2)
    assert "number of codebooks" in same
