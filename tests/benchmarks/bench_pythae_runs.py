"""Whole training runs of a small VAE as either library does them by itself: pythae 0.1.2 and ``rk.loop``.

    python tests/benchmarks/bench_pythae_runs.py [--rounds 7] [--cases mnist:512 digits:512 digits:128]

The net, data, loss and optimiser of ``bench_pythae.py``, where the losses are shown to be equal.  What is timed is a run of ten
epochs: ``BaseTrainer.train`` with its progress bars, its copies of the best model and its model saved at the end; ``rk.loop`` into
a folder, with its bar, metrics, saved state, and model.save.  They alternate in one process, on processor time and one thread;
medians are reported.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["TQDM_DISABLE"] = ""  # pythae's bars belong to its runs

import torch
from bench_pythae import BATCH, LR, binary, own_vae, pythae_trainer, pythae_vae

import reprkit as rk
from reprkit.data.formats.tensors import Tensors


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A block whose output goes nowhere; bars are drawn all the same."""
    with (
        open(os.devnull, "w") as nothing,
        contextlib.redirect_stderr(nothing),
        contextlib.redirect_stdout(nothing),
    ):
        yield


def whole_runs(name: str, hidden: int, rounds: int, epochs: int = 10) -> dict[str, Any]:
    """Seconds of processor time an epoch of whole runs, alternating; bars are drawn into nothing."""
    x = binary(name)
    fields = rk.Signature({"x": rk.Field(kind="vector", shape=(x.shape[1],), vocab=2)})
    data = Tensors({"x": x}, fields, name=name)

    def theirs(folder: str, **optimizer: Any) -> None:
        trainer = pythae_trainer(pythae_vae(x.shape[1], hidden), x, folder, epochs, **optimizer)
        trainer.train()

    def ours(folder: str) -> None:
        model = own_vae(data, hidden)
        steps = epochs * (len(x) // BATCH)
        loop = rk.loop(
            model,
            data,
            steps=steps,
            batch=BATCH,
            lr=LR,
            optimizer="adam",
            device="cpu",
            out=folder,
            progress=True,
        )
        for step in loop:
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
        model.save(f"{folder}/model")

    runs = {"pythae": theirs, "pythae_fused": lambda folder: theirs(folder, fused=True), "reprkit": ours}
    times: dict[str, list[float]] = {each: [] for each in runs}
    for turn in range(rounds + 1):
        for each, run in runs.items():
            with tempfile.TemporaryDirectory() as folder, quiet():
                before = time.process_time()
                run(folder)
                spent = (time.process_time() - before) / epochs
            if turn:
                times[each].append(spent)
    return {
        "examples": len(x),
        "seconds": {each: statistics.median(values) for each, values in times.items()},
    }


def main() -> None:
    """Print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--cases", nargs="+", default=["mnist:512", "digits:512", "digits:128"], help="DATA:WIDTH"
    )
    parser.add_argument("--out", default="runs/bench/pythae_runs.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pythae").setLevel(logging.ERROR)
    results = {}
    print(f"| {given.rounds} runs of ten epochs | ms an epoch | ratio |\n|---|---|---|")
    for case in given.cases:
        name, hidden = case.split(":")
        results[case] = found = whole_runs(name, int(hidden), given.rounds)
        for each, seconds in found["seconds"].items():
            title, ratio = each.replace("_fused", ", fused Adam"), seconds / found["seconds"]["reprkit"]
            print(f"| {case}: {title} | {seconds * 1e3:.1f} | {ratio:.2f} |")
    path = Path(given.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"torch": torch.__version__, "rounds": given.rounds, "results": results}, indent=1) + "\n"
    )
    print(f"written to {path}")


if __name__ == "__main__":
    main()
