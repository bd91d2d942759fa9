"""``recipes/syntax_semantics.py`` on drawn verses in two styles: the meaning finds its verse, the style tells the translation."""

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes/syntax_semantics.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("rouge_score") is None, reason="needs reprkit-text[rouge]"),
]


@pytest.mark.parametrize("latent", ["continuous(dim={width})", "top-k(dim={width}, k=8)"])
def test_meaning_and_style_are_separated(latent, tmp_path):
    path = tmp_path / "cache" / "text" / "verses" / "verses.jsonl.gz"
    path.parent.mkdir(parents=True)
    things = [chr(97 + n) * 4 for n in range(24)]  # "words" has no digits
    rows = [
        {"key": f"Gen.{n}.1", "kjv": f"thou hast {things[n % 24]} and {things[(7 * n + n // 24) % 24]}",
         "web": f"you have {things[n % 24]} , {things[(7 * n + n // 24) % 24]}", "rv": "x"}
        for n in range(400)
    ]  # fmt: skip
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    data = "verses(tokenizer='words(min_count=1)')"
    options = (
        "--steps",
        60,
        "--writing",
        20,
        "--batch",
        64,
        "--width",
        32,
        "--limit",
        20,
        "--latent",
        latent,
    )
    done = subprocess.run(
        [sys.executable, str(RECIPE), "--data", data, "--out", str(tmp_path / "run"), *map(str, options)],
        capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "REPRKIT_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "verse found" in done.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    trained = results["trained"]
    found = trained["retrieval"]
    assert found["own_to_meaning.recall_at_1"] > 5 * found["chance.recall_at_1"]
    erased, before = trained["linear-probe"], results["before erasing"]["linear-probe"]
    assert (
        erased["n"] == before["n"] == 2 * found["n"]
    )  # both translations, so that a constant is right in half
    if latent.startswith("continuous"):
        assert erased["accuracy"] < 0.65 < before["accuracy"]
    assert trained["style-probe"]["accuracy"] > 0.9
    assert 0 <= trained["style-exchange"]["judged"] <= 1
