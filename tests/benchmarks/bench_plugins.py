"""What looking costs: ``import reprkit`` and the commands that only look, beside ``python -c "import torch"``.

    python tests/benchmarks/bench_plugins.py [--rounds 15] [--plugins 50] [--out runs/bench/plugins.json]

Each measurement is a fresh interpreter, started and waited for; files are in the system's cache, as they are for anybody's
second command.  The runs alternate, so that a busy machine slows all of them alike; figures are medians of the clock's and of
the processor's time, and each ratio is of medians.  The plugins are distributions with metadata, a module with two hooks and a
module with a part, in a folder of their own; with them the parts are asked for by name too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import reprkit
from reprkit.testing.fake_installs import Site

ROOT = Path(reprkit.__file__).parents[1]
PLUGIN = """
    from reprkit import Spec, hookimpl

    reprkit_api = 1

    @hookimpl
    def reprkit_latents():
        yield Spec("latent-{0}", "budget_{0}_parts:Part", "One of many", ("torch", "sklearn.cluster"))

    @hookimpl
    def reprkit_encoders():
        yield Spec("encoder-{0}", "budget_{0}_parts:Part", "One of many")
"""
PART = '''
    """A part that is never imported here."""
    import torch
    import reprkit as rk

    class Part(rk.Latent):
        """Does nothing to speak of."""

        def __init__(self, dim: int = 8):
            super().__init__(in_dim=dim, out_dim=dim)
'''
COMMAND = "import sys; from reprkit.commands.main import main; main(sys.argv[1:])"


def measured(code: str, *args: str, path: Path | None) -> tuple[float, float]:
    """Seconds by the clock and of the processor that one fresh interpreter takes."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("REPRKIT_")}
    environment["PYTHONPATH"] = os.pathsep.join(str(each) for each in (path, ROOT) if each)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *args], env=environment, capture_output=True, text=True
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{code} {args} failed:\n{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--plugins", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/plugins.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        for index in range(options.plugins):
            site.add(f"budget-{index}", PLUGIN.format(index), modules={f"budget_{index}_parts": PART})
        many = f"{options.plugins} plugins"
        runs: dict[str, tuple[str, tuple[str, ...], Path | None]] = {
            "import torch": ("import torch", (), None),
            "python -c pass": ("pass", (), None),
            "import reprkit": ("import reprkit", (), None),
            "reprkit plugins, 0 plugins": (COMMAND, ("plugins",), None),
            f"reprkit plugins, {many}": (COMMAND, ("plugins",), site.root),
            f"reprkit list, {many}": (COMMAND, ("list",), site.root),
            f"reprkit show latent latent-7, {many}": (COMMAND, ("show", "latent", "latent-7"), site.root),
            f"reprkit --help, {many}": (COMMAND, ("--help",), site.root),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for turn in range(options.rounds + 1):
            for name, (code, args, path) in runs.items():
                taken = measured(code, *args, path=path)
                if turn:  # the first round fills the caches
                    times[name].append(taken)
    rows = {
        name: {
            "seconds": statistics.median(wall for wall, _ in taken),
            "fastest": min(wall for wall, _ in taken),
            "slowest": max(wall for wall, _ in taken),
            "processor": statistics.median(cpu for _, cpu in taken),
        }
        for name, taken in times.items()
    }
    print(f"{'':44}{'ms':>8}{'range':>16}{'× torch':>9}{'CPU ms':>9}{'× torch':>9}")
    for name, row in rows.items():
        row["of_torch"] = row["seconds"] / rows["import torch"]["seconds"]
        row["of_torch_processor"] = row["processor"] / rows["import torch"]["processor"]
        span = f"{1e3 * row['fastest']:.0f} to {1e3 * row['slowest']:.0f}"
        print(
            f"{name:44}{1e3 * row['seconds']:8.0f}{span:>16}{row['of_torch']:9.3f}"
            f"{1e3 * row['processor']:9.0f}{row['of_torch_processor']:9.3f}"
        )
    versions = {name: version(name) for name in ("torch", "typer", "pluggy")} | {
        "python": platform.python_version()
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    told = {"rounds": options.rounds, "versions": versions, "machine": platform.processor(), "figures": rows}
    options.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
