"""``rk.embed`` of a million rows beside the loop over a DataLoader that one writes by hand, with the same modules and batches.

    python tests/benchmarks/bench_embedding.py [--rows 1000000] [--rounds 5] [--out runs/bench/embedding.json]

Rows of 64 numbers through an MLP of one hidden layer of 128 to 16 numbers, 256 rows a batch, one thread, float32.
"DataLoader" is ``DataLoader(TensorDataset(x))`` with its default collation, ``eval()``, ``no_grad()`` and ``torch.cat``; "slices"
is the same loop over ``x.split(256)``, the least that Python can do.  Both call the model's own modules, without any check of the
values.  Vectors are equal first.  Runs alternate; figures are medians of processor time.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

import reprkit as rk

WIDTH, BATCH = 64, 256


@torch.no_grad()
def loop(model, batches):
    model.eval()
    factor = model.factors["code"]
    return torch.cat([_code(factor, x) for x in batches])


def _code(factor, x):
    return factor.adapter(factor.encoder({"x": x}).x)[:, 0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/bench/embedding.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(given.rows, WIDTH, generator=torch.Generator().manual_seed(0))
    data = rk.dataset(x)
    model = rk.build(
        data=data, encoder="mlp(widths=(128,))", latent="continuous(dim=16)", decoder="mlp(widths=(128,))"
    )
    ways = {
        "DataLoader": lambda: loop(model, (rows for (rows,) in DataLoader(TensorDataset(x), BATCH))),
        "slices": lambda: loop(model, x.split(BATCH)),
        "reprkit": lambda: rk.embed(model, data, to="torch", batch=BATCH, progress=False),
    }
    vectors = [way() for way in ways.values()]
    for other in vectors[1:]:
        torch.testing.assert_close(other, vectors[0])
    taken = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            before = time.process_time()
            way()
            taken[name].append(time.process_time() - before)
    seconds = {name: statistics.median(each) for name, each in taken.items()}
    for name, each in seconds.items():
        print(
            f"{name:12}{each:8.2f} s  {each / seconds['reprkit']:5.2f} ×  {given.rows / each:12,.0f} rows a second"
        )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    record = {"torch": torch.__version__, "rows": given.rows, "rounds": given.rounds, "seconds": seconds}
    given.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
