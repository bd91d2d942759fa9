"""Small runs of the recipes ``char_rnn``, ``next_value`` and ``bert``: what they print, and errors for input they cannot read."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def run_recipe(name, folder, *args):
    command = [sys.executable, str(ROOT / "recipes" / name), "--out", str(folder / "run"), *map(str, args)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=300)


@pytest.mark.parametrize("decoder", ["gru(width=32)", "transformer(width=32, heads=2, depth=1, causal=True)"])
def test_char_rnn_learns_a_text(decoder, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat; the dog did not.\n" * 200, encoding="utf-8")
    done = run_recipe(
        "char_rnn.py", tmp_path, "--text", text, "--decoder", decoder, "--window", 32, "--steps", 150, "--lr", 0.01,
        "--prime", "the dog", "--length", 50, "--top-p", 0.9, "--dynamic", 1e-4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    bits = float(re.search(r"([0-9.]+) bits per character,", done.stdout)[1])
    alphabet = json.loads((tmp_path / "run" / "alphabet.json").read_text())
    assert bits < 0.5 < math.log2(len(alphabet))
    dynamic_bits = float(re.search(r"dynamic evaluation: ([0-9.]+) bits", done.stdout)[1])
    assert 0 < dynamic_bits < 0.5
    samples = done.stdout.split("----\n")[1:]
    assert len(samples) == 2
    assert all(sample.startswith("the dog") for sample in samples)


def test_char_rnn_on_the_default_text_and_its_errors(tmp_path):
    done = run_recipe(
        "char_rnn.py", tmp_path, "--steps", 2, "--decoder", "gru(width=8)", "--window", 64, "--length", 20
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "xz:" in done.stdout
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9 " * 500)
    (tmp_path / "short.txt").write_text("too short")
    for args, word in (
        (("--text", latin), "UTF-8"),
        (("--text", tmp_path / "none.txt"), "cannot be read"),
        (("--text", tmp_path / "short.txt"), "too short"),
        (("--prime", "\u2603"), "the text does not"),
    ):
        done = run_recipe("char_rnn.py", tmp_path, *args, "--overwrite")
        assert done.returncode != 0
        assert word in done.stdout + done.stderr


def test_next_value_on_sunspots(tmp_path):
    pytest.importorskip("statsmodels")
    done = run_recipe("next_value.py", tmp_path, "--networks", 2)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {
        name.strip(): (float(valid), float(test))
        for name, valid, test in re.findall(r"^  (\S.*?) {2,}([0-9.]+) +([0-9.]+)$", done.stdout, re.M)
    }
    ours, ar = (next(found[name] for name in found if name.startswith(start)) for start in ("2 x gru", "AR("))
    assert ar[1] == 377.9  # AR(9), as statsmodels computes it
    assert ours[1] < ar[1] < found["last value"][1]
    assert ours[0] < found["last value"][0]
    assert "80 % intervals of 200 samples" in done.stdout
    (tmp_path / "words.txt").write_text("1 2 three")
    done = run_recipe("next_value.py", tmp_path, "--series", tmp_path / "words.txt", "--overwrite")
    assert done.returncode != 0
    assert "not a file of numbers" in done.stdout + done.stderr


SMALL_BERT = ("--width", 32, "--depth", 1, "--heads", 2, "--steps", 40, "--lr", 3e-3)


def assert_equal_in_transformers(done):
    """Check the difference to transformers' BertModel that the recipe prints."""
    assert float(re.search(r"BertModel differs by at most ([0-9.e+-]+)", done.stdout)[1]) < 1e-5


def test_bert_on_debian_with_few_labels(tmp_path):
    pytest.importorskip("reprkit_text")
    transformers = pytest.importorskip("transformers")
    done = run_recipe(
        "bert.py", tmp_path, *SMALL_BERT, "--labels", 100, "--tune", "finetune(steps=20, batch=32, lr=3e-3)"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_equal_in_transformers(done)
    rows = dict(re.findall(r"^(TF-IDF|from scratch|masked-language)\b(.*)$", done.stdout, re.M))
    assert float(re.search("[0-9.]+", rows["TF-IDF"])[0]) > 0.3  # 20 classes
    assert all(
        len(re.findall("[01]\\.[0-9]+", rows[name])) == 2 for name in ("from scratch", "masked-language")
    )
    log = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert log["metrics"]["perplexity"] < 2500  # of 4,000 symbols
    folder = tmp_path / "run" / "bert"
    fill = transformers.pipeline("fill-mask", model=str(folder), tokenizer=str(folder), top_k=5)
    assert len(fill("this package contains the [MASK] files.")) == 5


def test_bert_on_a_text_file_with_another_latent(tmp_path):
    pytest.importorskip("reprkit_text")
    from pydoc_data.topics import topics

    (tmp_path / "text.txt").write_text(
        "\n".join(topics[name] for name in ("numeric-types", "sequence-types"))
    )
    done = run_recipe(
        "bert.py", tmp_path, *SMALL_BERT, "--data", "text(path='text.txt', tokenizer='byte-pair(vocab=400)')",
        "--latent", "vq(codes=32, dim=16)",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert_equal_in_transformers(done)
    assert "most similar of" in done.stdout
    assert "TF-IDF" not in done.stdout
