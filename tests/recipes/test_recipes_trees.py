import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("reprkit_structure")
pytest.importorskip("reprkit_text")

ROOT = Path(__file__).parents[2]


def run_recipe(name, *args):
    done = subprocess.run(
        [sys.executable, str(ROOT / "recipes" / f"{name}.py"), *map(str, args)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_few_pairs_and_texts_alone(tmp_path):
    printed = run_recipe(
        "structvae", "--data", "templates(size=200, nested=0)", "--held-out", "templates(part='held-out', size=20)",
        "--encoder", "gru(width=16)", "--latent", "derivation(width=16, length=28)",
        "--decoder", "gru(width=16, causal=True)", "--before", 12, "--alone", 6, "--steps", 4, "--out", tmp_path,
    )  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {
        f"{arm}, {part}"
        for arm in ("before", "supervised", "with texts alone")
        for part in ("test", "held-out")
    }
    for row in results.values():
        assert row["parsed"] == 1.0
        assert 0 <= row["exact"] <= row["f1"] <= 1
    assert results["supervised, test"]["nats"] < results["before, test"]["nats"]
    assert "exact trees on test, mean of 1" in printed


@pytest.mark.slow
def test_texts_to_trees(tmp_path):
    run_recipe(
        "text_to_tree", "--data", "templates(size=200, nested=0)", "--held-out", "", "--encoder",
        "transformer(width=16, depth=1, heads=2)", "--latent", "derivation(width=16, length=28)", "--steps", 30,
        "--batch", 16, "--out", tmp_path,
    )  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["test"]["parsed"] == 1.0
    assert results["test"]["f1"] > 0
    assert set(results) == {"test", "test, most frequent tree"}


@pytest.mark.slow
def test_from_a_grammars_trees(tmp_path):
    small = (
        "--data",
        "sentences(size=150, longest=7)",
        "--encoder",
        "gru(width=16)",
        "--decoder",
        "stack(width=16)",
    )
    run_recipe(
        "urnng", *small, "--grammar-decoder", "pcfg(nonterminals=3, preterminals=4, width=16)", "--grammar-steps", 5,
        "--before", 10, "--together", 4, "--steps", 3, "--out", tmp_path / "one",
    )  # fmt: skip
    results = json.loads((tmp_path / "one" / "results.json").read_text())
    for name in ("grammar", "parser and generator together", "generator alone"):
        assert 0 <= results[name]["f1"] <= results["best tree"]["f1"] == 1.0
    # The last stage does not change the parser.
    assert results["generator alone"]["f1"] == results["parser and generator together"]["f1"]
    run_recipe(
        "urnng", *small, "--grammar", tmp_path / "one" / "grammar" / "model", "--before", 3, "--together", 2,
        "--steps", 2, "--out", tmp_path / "two",
    )  # fmt: skip
    again = json.loads((tmp_path / "two" / "results.json").read_text())
    assert again["grammar"]["f1"] == results["grammar"]["f1"]
