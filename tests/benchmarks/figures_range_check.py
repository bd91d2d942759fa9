"""The figures of docs/results/contracts/range_check.md: what the check of values costs in ``Model.encode``.

    python tests/benchmarks/figures_range_check.py

Processor time of ``model.encode(batch)``, which checks range and vocabulary, beside ``in_range=False``, which checks the scale only
(as ``encode`` did in 0.1): the median of 25 measurements, taken in turn, of three calls each.
"""

import statistics
import time

import torch

import reprkit as rk
from reprkit.data import Column, Field, Signature
from reprkit.testing.sample_data import random_batch

COLUMNS = tuple(Column(f"number {n}") for n in range(10)) + tuple(
    Column(f"class {n}", "category", classes=("a", "b", "c")) for n in range(10)
)
# Name: the field, the encoder, examples in a batch
CASES = {
    "images 8 x 8, `mlp(widths=(256,))`": (
        Field(kind="image", shape=(8, 8, 1), range=(0.0, 1.0)),
        "mlp(widths=(256,))",
        256,
    ),
    "binary images 28 x 28, `mlp(widths=(256,))`": (
        Field(kind="image", shape=(28, 28, 1), vocab=2),
        "mlp(widths=(256,))",
        256,
    ),
    "128 symbols, `gru(width=64)`": (Field(kind="tokens", shape=(128,), vocab=300), "gru(width=64)", 64),
    "10 numbers and 10 categories, `mlp(widths=(64,))`": (
        Field(kind="vector", shape=(40,), columns=COLUMNS),
        "mlp(widths=(64,))",
        256,
    ),
}


def cost(model, batch, **options):
    """Milliseconds of the processor that an encoding takes."""
    start = time.process_time()
    for _ in range(3):
        model.encode(batch, **options)
    return (time.process_time() - start) / 3 * 1e3


def main():
    torch.set_num_threads(1)
    for name, (field, encoder, size) in CASES.items():
        data = Signature({"x": field})
        parts = {"encoder": encoder, "latent": "continuous(dim=16)", "objective": "contrastive"}
        model, batch = rk.build(data=data, **parts).eval(), random_batch(data, size)
        with torch.no_grad():
            pairs = [(cost(model, batch), cost(model, batch, in_range=False)) for _ in range(25)]
        checked, scale = (statistics.median(each) for each in zip(*pairs, strict=True))
        print(f"| {name} | {size} | {scale:.2f} | {checked:.2f} | {checked - scale:.2f} |", flush=True)


if __name__ == "__main__":
    main()
