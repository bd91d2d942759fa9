"""Small runs of ``recipes/summarizer.py`` with every critic and with other latents: its printed table and its page."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

DATA = "debian(length=44, summary_length=15, tokenizer='byte-pair(vocab=400, lower=True)')"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("rouge_score") is None, reason="needs reprkit-text[rouge]"),
]


def run_recipe(folder, *args, data=None, steps=2):
    command = [sys.executable, str(ROOT / "recipes" / "summarizer.py"), "--out", str(folder / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "REPRKIT_CACHE": str(folder / "cache")}
    small = ("--before", 3, "--steps", steps, "--limit", 20, "--width", 32, "--data", data or DATA)
    return subprocess.run(
        [*command, *map(str, (*small, *args))],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=300,
    )


def parse_rows(text):
    """The printed table: name -> ROUGE values."""
    found = re.findall(r"^(\S.*?) {2,}([0-9.]+) +([0-9.]+) +([0-9.]+) ", text, re.M)
    return {name: [float(value) for value in values] for name, *values in found}


@pytest.mark.parametrize("critic", ["wgan", "self-critic", "none"])
def test_summaries_are_compared_with_lead_baselines(critic, tmp_path):
    done = run_recipe(tmp_path, "--critic", critic, *(["--supervised"] if critic == "wgan" else []))
    assert done.returncode == 0, done.stderr[-3000:]
    table = parse_rows(done.stdout)
    assert {"pre-trained", f"critic {critic}", "lead-10", "random-sentence"} <= set(table)
    assert ("supervised" in table) == (critic == "wgan")
    assert table["lead-10"][0] > table["random-words"][0] > 0.05
    assert all(name in done.stdout for name in ("human: ", "document: ", "summary: ", "reconstruction: "))
    assert table["span, no network"][0] > table["random-words"][0]
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "lead-sentence" in page
    assert "reconstruction" in page
    assert json.loads((tmp_path / "run" / "results.json").read_text())
    document = b"A tool that draws maps of stars.\n"
    done = subprocess.run(
        [sys.executable, "-m", "reprkit", "text", "summarize", str(tmp_path / "run" / "model")],
        input=document,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count(b"\n") == 1


def test_zero_critic_steps_save_the_pretrained_model(tmp_path):
    done = run_recipe(tmp_path, steps=0)
    assert done.returncode == 0, done.stderr[-3000:]
    table = parse_rows(done.stdout)
    assert {"pre-trained", "lead-10", "span, no network"} <= set(table)
    assert not [name for name in table if name.startswith("critic")]
    assert (tmp_path / "run" / "model").is_dir()


@pytest.mark.parametrize("latent", ["vq(codes=16, dim=8)", "continuous(dim=8)"])
def test_other_latents(latent, tmp_path):
    done = run_recipe(tmp_path, "--latent", latent)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "summary: " not in done.stdout
    assert "reconstruction: " in done.stdout
    assert "lead-10" in done.stdout


def test_a_local_checkpoint_reads_and_writes(tmp_path):
    transformers = pytest.importorskip("transformers")
    from reprkit_text.vocabulary import vocabulary

    made = vocabulary(
        "byte-pair(vocab=300, lower=True)", ["a tool that draws maps of stars", "a library for sounds"]
    )
    (tmp_path / "t5").mkdir()
    (tmp_path / "t5" / "tokenizer.json").write_text(made.to_json())
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=made.size, eos_token_id=0, decoder_start_token_id=0, **sizes)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    data = f"debian(length=44, summary_length=15, tokenizer={str(tmp_path / 't5')!r})"
    done = run_recipe(tmp_path, "--folder", tmp_path / "t5", data=data)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"pre-trained", "critic wgan", "lead-10"} <= set(parse_rows(done.stdout))
    (tmp_path / "again").mkdir()
    done = run_recipe(tmp_path / "again", "--folder", tmp_path / "nothing")
    assert done.returncode != 0
    assert "no checkpoint" in done.stdout + done.stderr


def test_unknown_critics_and_unfit_latents_raise(tmp_path):
    done = run_recipe(tmp_path, "--critic", "wgam")
    assert done.returncode != 0
    assert "wgan" in done.stdout + done.stderr
    done = run_recipe(tmp_path, "--latent", "vq(codes=16, dim=8)", "--critic", "self-critic")
    assert done.returncode != 0
    assert "self-critical needs a latent" in done.stdout + done.stderr or (
        "needs a latent of words" in done.stdout + done.stderr
    )
