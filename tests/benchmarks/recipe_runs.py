"""Runs of a recipe in processes of their own, for scripts that compare several."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

RECIPES = Path(__file__).parents[2] / "recipes"


def run_recipe(name, flags, folder, *more):
    """Run a recipe with these flags (and ``more``, which are not recorded) on one thread; return flags, seconds and results."""
    given = [f"--{flag}={value}" for flag, value in flags.items()]
    command = [sys.executable, str(RECIPES / f"{name}.py"), *given, *more, f"--out={folder}"]
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    results = json.loads((folder / "results.json").read_text())
    return {"flags": flags, "seconds": round(time.time() - start), "results": results}
