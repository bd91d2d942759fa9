import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("reprkit_structure")

ROOT = Path(__file__).parents[2]
DATA = ("--data", "sentences(size=150, longest=8)")
SMALL = ("--encoder", "gru(width=16)", "--steps", 40)


def run_recipe(*args):
    done = subprocess.run(
        [sys.executable, str(ROOT / "recipes" / "grammar.py"), *map(str, args)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_restart_with_the_best_validation_bound_is_chosen(tmp_path):
    printed = run_recipe(
        *DATA, *SMALL, "--held-out", "sentences(part='held-out', size=40, longest=12)", "--restarts", 2,
        "--decoder", "pcfg(nonterminals=3, preterminals=4, width=16)", "--out", tmp_path,
    )  # fmt: skip
    results = json.loads((tmp_path / "results.json").read_text())
    for part in ("test", "held-out"):
        own = results[f"pcfg(nonterminals=3, preterminals=4, width=16), {part}"]
        assert 0 <= own["f1"] <= results[f"best binary tree, {part}"]["f1"]
        assert results[f"right branching, {part}"]["f1"] > results[f"left branching, {part}"]["f1"]
        assert 0 <= results[f"consensus of 2, {part}"]["f1"] <= results[f"best binary tree, {part}"]["f1"]
        assert own["negative_elbo"] == pytest.approx(own["nll"] + own["kl"])
    bounds = [float(each) for each in re.findall(r"restart-\d: bound on valid ([\d.]+),", printed)]
    assert len(bounds) == 2
    best = bounds.index(min(bounds))
    assert f"restart-{best}, chosen by its bound on valid" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--latent", "vq(codes=8, dim=4)", "--decoder", "pcfg(nonterminals=3, preterminals=4, width=16)"),
        (
            "--latent",
            "text(vocab=12, width=16, length=4)",
            "--decoder",
            "pcfg(nonterminals=3, preterminals=4, width=16)",
        ),
        ("--latent", "tree", "--no-pool", "--decoder", "stack(width=16)"),
        (
            "--latent",
            "tree-lstm(width=16)",
            "--no-pool",
            "--decoder",
            "pcfg(nonterminals=3, preterminals=4, width=16)",
        ),
        (
            "--latent",
            "tree(gradient='none')",
            "--no-pool",
            "--decoder",
            "stack(width=16)",
            "--objective",
            "policy",
        ),
    ],
    ids=["vq", "text", "tree", "tree-lstm", "policy"],
)
def test_any_latent(tmp_path, options):
    run_recipe(*DATA, *SMALL, *options, "--restarts", 1, "--out", tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    assert 0 <= results[f"{options[options.index('--decoder') + 1]}, test"]["f1"] <= 1
