"""``recipes/speech_units.py``, small, on what flite says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
@pytest.mark.parametrize("latent", ["vq(codes=16, dim=4)", "continuous(dim=4)"])
def test_units_are_compared_with_k_means(latent, tmp_path):
    texts = tuple(
        f"Sentence number {word} is short."
        for word in ("one", "two", "three", "four", "five", "six", "seven", "eight")
    )
    given = {
        "data": f"parallel-speech(voices=('rms', 'slt'), sentences={texts!r}, frames=32)",
        "encoder": "instance-norm(width=16, depth=2, stride=2)",
        "decoder": "adain(width=16, depth=2, stride=2, norm=False, condition_dim=8)",
        "latent": latent, "steps": "10", "batch": "16", "warmup": "2", "out": "run",
    }  # fmt: skip
    command = [
        sys.executable,
        str(ROOT / "recipes/speech_units.py"),
        *(f"--{n}={v}" for n, v in given.items()),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "run/results.json").read_text())
    assert set(found) == {latent, "untrained", "k-means", "frames"}
    assert 0 < found[latent]["speech-units"]["purity"] <= 1
    assert found["k-means"]["speech-units"]["purity"] > found["untrained"]["speech-units"]["purity"]
    assert 0 <= found["k-means"]["abx"]["across"] <= 1
    assert found[latent]["abx"]["milliseconds"] == 20
    assert "ABX across" in done.stdout
