"""Commands that only list, show or copy import neither torch nor any other slow library."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reprkit.commands import main

ROOT = Path(main.__file__).parents[2]
HEAVY = (
    "torch",
    "sklearn",
    "scipy",
    "numpy",
    "matplotlib",
    "accelerate",
    "einops",
    "jaxtyping",
    "safetensors",
)


def run_and_list_imports(folder, *args):
    """The heavy modules that a command imports, and what it prints."""
    code = (
        f"import sys\nfrom reprkit.commands.main import main\ntry: main({list(args)!r})\n"
        f"except SystemExit as e: assert not e.code, e.code\n"
        f"print('heavy:', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    text, _, heavy = done.stdout.rpartition("heavy: ")
    return heavy.strip(), text


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    import reprkit as rk

    train, _ = rk.dataset("digits").split()
    model = rk.build(
        data=train, encoder="mlp(widths=(8,))", latent="binary(bits=4)", decoder="mlp(widths=(8,))"
    )
    return model.save(tmp_path_factory.mktemp("checkpoint") / "model")


@pytest.mark.parametrize(
    "args",
    [
        ["recipes"],
        ["recipes", "--json"],
        ["recipes", "copy", "latent_swap"],
        ["recipes", "--help"],
        ["run", "--help"],
        ["new", "acme-latents"],
        ["new", "acme-data", "--kind", "dataset", "--json"],
        ["check", "--help"],
        ["inspect", "--help"],
    ],
    ids=" ".join,
)
def test_listing_and_copying_import_nothing_heavy(args, tmp_path):
    assert run_and_list_imports(tmp_path, *args)[0] == "[]"


def test_inspect_imports_nothing_heavy(checkpoint, tmp_path):
    heavy, text = run_and_list_imports(tmp_path, "inspect", str(checkpoint), "--json")
    assert heavy == "[]"
    assert json.loads(text)["parts"][2]["part"] == "binary(bits=4)"
