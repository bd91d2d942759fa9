"""Everything that docs/results/gpu.md lacks, on one machine with a CUDA device, within twelve minutes.

    pip install --no-deps --no-build-isolation -e . -e plugins/reprkit-audio
    python tests/benchmarks/gpu_figures.py [--minutes 12] [--only vq] [--text kjv.txt] [--out runs/gpu]

Each entry is a process with a time of its own.  Where one fails or is stopped at its time, the script says so and runs the next; it
also says what an entry needs and this machine lacks: a package, a second device, a file.  An entry's output is OUT/NAME.log, its
figures are OUT/NAME.json.  OUT/figures.json holds the states of all entries and is written after each.  The exit code is the number
of entries that failed or were stopped.  ``--device cpu`` tries the script on a machine without a device.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BENCHMARKS = "tests/benchmarks"


@dataclass(frozen=True)
class Entry:
    """A measurement.

    Attributes:
        name: of its files.
        about: what it measures.
        command: the arguments of Python; {device}, {out} and {text} are filled in, {seconds} is its time without the start.
        seconds: its time.
        modules: packages that it needs.
        devices: how many devices it needs.
    """

    name: str
    about: str
    command: tuple[str, ...]
    seconds: int
    modules: tuple[str, ...] = ()
    devices: int = 1


ENTRIES = (
    Entry("tests", "tests marked gpu", ("-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"), 150, ("pytest",)),
    Entry(
        "vq",
        "VQ step beside vector-quantize-pytorch, where installed",
        (f"{BENCHMARKS}/bench_vq.py", "--device", "{device}", "--repeats", "9", "--out", "{out}"),
        60,
    ),
    Entry(
        "ntxent",
        "NT-Xent beside lightly, where installed",
        (f"{BENCHMARKS}/bench_ntxent.py", "--device", "{device}", "--repeats", "9", "--out", "{out}"),
        60,
    ),
    Entry(
        "mae",
        "MAE step of ViT-B/16 beside transformers",
        (f"{BENCHMARKS}/bench_mae.py", "--device", "{device}", "--repeats", "7", "--out", "{out}"),
        90,
        ("transformers",),
    ),
    Entry(
        "bert",
        "masked-language step beside transformers",
        (f"{BENCHMARKS}/bench_bert.py", "--device", "{device}", "--repeats", "7", "--out", "{out}"),
        60,
        ("transformers", "reprkit_text"),
    ),
    Entry(
        "steps",
        "steps of the large presets, float32 and bf16, with and without activation checkpointing",
        (f"{BENCHMARKS}/gpu_steps.py", "--device", "{device}", "--seconds", "8", "--out", "{out}"),
        120,
        ("reprkit_audio",),
    ),
    Entry(
        "latent_swap",
        "the main recipe",
        ("recipes/latent_swap.py", "--device", "{device}", "--out", "{folder}", "--overwrite"),
        90,
        ("sklearn",),
    ),
    Entry(
        "char_rnn",
        "character model of a text, 400 steps of an LSTM of 1024 x 2",
        (
            f"{BENCHMARKS}/figures_char_rnn.py", "{text}", "--device", "{device}", "--kneser-ney", "--ppmd", "--steps", "400",
            "--looks", "2", "--seeds", "0", "--out", "{folder}",
        ),
        60,
    ),
    Entry(
        "fsdp",
        "FSDP2 on two devices",
        (
            "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "recipes/latent_swap.py", "--strategy", "fsdp",
            "--steps", "200", "--out", "{folder}", "--overwrite",
        ),
        30,
        ("sklearn",),
        devices=2,
    ),
)  # fmt: skip


def lacking(entry: Entry, devices: int, text: Path | None) -> str | None:
    """Return what an entry needs and this machine does not have, or None."""
    missing = [name for name in entry.modules if importlib.util.find_spec(name) is None]
    if missing:
        return f"it needs {', '.join(missing)}"
    if devices < entry.devices:
        return f"it needs {entry.devices} devices, and there are {devices}"
    if text is None and any("{text}" in part for part in entry.command):
        return "it needs --text FILE, what `bible -f Gen1:1-Rev22:21` prints"
    return None


def run(command: list[str], seconds: float, log: Path) -> tuple[str, float]:
    """Run Python with arguments until it ends or its time is up, then stop it and all that it started: state, seconds."""
    began = time.monotonic()
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=file, stderr=subprocess.STDOUT, cwd=ROOT, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout=seconds)
            state = "done" if code == 0 else f"failed with code {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            state = f"stopped after {seconds:.0f} s"
    return state, time.monotonic() - began


def count_devices(device: str) -> int:
    """Return how many devices there are; one CPU."""
    import torch

    return torch.cuda.device_count() if device == "cuda" else 1


def about_machine(device: str) -> dict[str, Any]:
    """Describe what the figures depend on."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return {
        "device": name,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": sys.version.split()[0],
    }


def measure(entry: Entry, given: argparse.Namespace, devices: int, seconds: float) -> dict[str, Any]:
    """Run an entry, print what it printed last, and return its state."""
    lack = lacking(entry, devices, given.text)
    if lack is not None:
        return {"state": f"left out: {lack}", "seconds": 0.0}
    if seconds < min(5, entry.seconds):
        return {"state": "left out: the time is used up", "seconds": 0.0}
    log, figures = given.out / f"{entry.name}.log", given.out / f"{entry.name}.json"
    figures.unlink(missing_ok=True)  # of an earlier run
    names = {
        "device": given.device,
        "out": str(figures),
        "folder": str(given.out / entry.name),
        "text": str(given.text),
    }
    print(f"\n=== {entry.name}: {entry.about} (at most {seconds:.0f} s)", flush=True)
    state, taken = run([part.format(**names) for part in entry.command], seconds, log)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines[-given.lines :]))
    row: dict[str, Any] = {"state": state, "seconds": round(taken, 1), "log": log.name}
    if figures.is_file():
        try:
            row["figures"] = json.loads(figures.read_text(encoding="utf-8"))
        except ValueError as error:  # stopped while it wrote
            row["state"] += f"; {figures.name} is damaged: {error}"
    return row


def main() -> int:
    """Run the entries, print a line for each; the exit code is the number of those that failed or were stopped."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--minutes", type=float, default=12.0, help="of all entries together")
    parser.add_argument("--seconds", type=float, default=None, help="of each entry, instead of its own time")
    parser.add_argument("--only", nargs="*", default=None, choices=[entry.name for entry in ENTRIES])
    parser.add_argument("--text", type=Path, default=None, help="of the character model")
    parser.add_argument("--lines", type=int, default=40, help="of each entry's output to print")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    given = parser.parse_args()
    given.out, given.text = given.out.resolve(), given.text and given.text.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    devices = count_devices(given.device)
    if not devices:
        raise SystemExit("there is no CUDA device; --device cpu tries the script")
    end = time.monotonic() + 60 * given.minutes
    record: dict[str, Any] = about_machine(given.device) | {"devices": devices, "entries": {}}
    for entry in ENTRIES:
        if given.only is not None and entry.name not in given.only:
            continue
        seconds = min(given.seconds or entry.seconds, end - time.monotonic())
        record["entries"][entry.name] = measure(entry, given, devices, seconds)
        (given.out / "figures.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(
        f"\n{record['device']}, torch {record['torch']}, Python {record['python']}; {given.out / 'figures.json'}"
    )
    for name, row in record["entries"].items():
        print(f"{name:14}{row['seconds']:8.1f} s  {row['state']}")
    return sum(not row["state"].startswith(("done", "left out")) for row in record["entries"].values())


if __name__ == "__main__":
    raise SystemExit(main())
