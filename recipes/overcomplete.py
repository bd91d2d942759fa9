"""What keeps an autoencoder from learning the identity: an overcomplete code, and five remedies.

A code with more numbers than the data and no other restriction can copy anything: the network reconstructs noise as well as
the data, so it has learned nothing of them.  A narrow code, noise on the input, dropout of the code, sparsity and contraction
are the remedies of the textbooks.  The table compares the ratio of signal to error of the reconstruction, in dB, of test
examples and of two kinds of Gaussian noise.  White noise has the mean and variance of each element of the data and nothing else
of them: it is the noise that counts, and a remedy works where it loses more than the data.  Noise of equal covariance is shown
beside it: a linear network, as here by default, has by nature the same error for it as for the data.  The page draws all three.

The networks are linear, and their learning rate is constant: its fluctuations leave an error of similar size in every direction,
so that data and white noise can be compared.  Networks of relu layers do not copy white noise even without a remedy.

Sources: Bengio, Courville and Vincent 2013, "Representation learning: a review and new perspectives", arXiv 1206.5538, section
7.2; Goodfellow, Bengio and Courville 2016, "Deep learning", chapter 14.
Data: scikit-learn's digits, split 70/10/20 by seed.
Expected (five seeds, one core, half a minute each): docs/results/classic/overcomplete.md.

    python recipes/overcomplete.py
    python recipes/overcomplete.py --std 0.1 --dropout 0.1 --k 32 --weight 0.03
    python recipes/overcomplete.py --activation relu --encoder "mlp(widths=(128,), activation='relu')"
"""

import math
from dataclasses import replace
from typing import Annotated

import torch
import typer

import reprkit as rk
from reprkit.data import Tensors
from reprkit.reporting import Section, compare, exhibit
from reprkit.utils.collectives import rank

COLUMNS = {
    "snr.data": "data, dB", "snr.noise": "noise of equal covariance, dB", "snr.white": "white noise, dB",
    "lost.data": "lost on data", "lost.noise": "lost on noise", "lost.white": "lost on white noise",
}  # fmt: skip


def noise_like(train: rk.Dataset, count: int, seed: int, covariance: bool) -> rk.Dataset:
    """Gaussian noise with the mean and covariance of the training data, or with the mean and variance of each element alone."""
    x, generator = train.batch(range(len(train)))["x"], torch.Generator().manual_seed(seed)
    if covariance:  # random sums of the examples
        drawn = torch.randn(count, len(x), generator=generator) @ (x - x.mean(0)).flatten(1) / len(x) ** 0.5
    else:
        drawn = torch.randn(count, x[0].numel(), generator=generator) * x.flatten(1).std(0)
    signature = rk.Signature({"x": replace(train.signature["x"], range=None)})
    return Tensors({"x": x.mean(0) + drawn.view(count, *x.shape[1:])}, signature, name="noise")


@torch.no_grad()
def decibels(model: rk.Model, data: rk.Dataset) -> float:
    """Variance of the data, around the mean of each element, over the squared error of the reconstruction, in dB."""
    x = data.batch(range(len(data)))["x"]
    error = (
        (model.to_batch(model.decode(model.encode({"x": x}, in_range=False)))["x"].cpu() - x).square().sum()
    )
    return 10 * math.log10(float((x - x.mean(0)).square().sum() / error))


def main(
    data: str = "digits",
    width: Annotated[int, typer.Option(help="of the overcomplete codes")] = 128,
    narrow: Annotated[int, typer.Option(help="width of the narrow code")] = 44,
    std: Annotated[float, typer.Option(help="deviation of the noise on the input")] = 0.02,
    dropout: Annotated[float, typer.Option(help="share of the code that is dropped")] = 0.01,
    k: Annotated[int, typer.Option(help="units of the sparse code that are kept")] = 64,
    weight: Annotated[float, typer.Option(help="of the contraction")] = 0.003,
    encoder: str = "flat",
    activation: Annotated[str, typer.Option(help="of the overcomplete codes")] = "identity",
    decoder: str = "flat(scale=0.2)",
    steps: int = 800,
    batch: int = 16,
    lr: float = 0.02,
    seed: int = 0,
    out: str = "runs/overcomplete",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="constant", device="cpu"),
) -> None:
    train, _, test = rk.dataset(data).split(seed=seed, valid=True)
    wide = f"dim={width}, activation='{activation}'"
    ways = {
        "overcomplete": (f"continuous({wide})", "reconstruction"),
        "narrow code": (f"continuous(dim={narrow})", "reconstruction"),
        "noise on the input": (f"continuous({wide})", f"denoising(corruption='gaussian-noise(std={std})')"),
        "dropout of the code": (f"continuous({wide}, dropout={dropout})", "reconstruction"),
        "sparsity": (f"top-k(dim={width}, k={k})", "reconstruction"),
        "contraction": (f"continuous({wide})", f"reconstruction + {weight} * contractive(probes=2)"),
    }
    inputs = {
        "data": test,
        "noise": noise_like(train, len(test), seed, True),
        "white": noise_like(train, len(test), seed, False),
    }
    shown = {key: each.batch(range(8))["x"] for key, each in inputs.items()}
    table, drawn = {}, {key: {"input": x.numpy()} for key, x in shown.items()}
    for name, (latent, objective) in ways.items():
        model = rk.build(
            data=train, encoder=encoder, latent=latent, decoder=decoder, objective=objective, seed=seed
        )
        model = rk.fit(
            model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=f"{out}/{name}", resume=resume, **launch
        ).model  # fmt: skip
        snr = {key: decibels(model, each) for key, each in inputs.items()}
        first = table["overcomplete"]["snr"] if table else snr
        table[name] = {"snr": snr, "lost": {key: first[key] - snr[key] for key in snr}}
        for key, x in shown.items():
            drawn[key][name] = model.reconstruct({"x": x}, "numpy", in_range=False)
    figures = [
        each
        for key, rows in drawn.items()
        for each in exhibit(f"Reconstructed: {key}", test.signature["x"], rows)
    ]
    sections = [Section("Reconstructions", figures)]
    page = rk.report(out, table, columns=COLUMNS, sections=sections, title="What avoids the identity")
    if rank() == 0:
        print(compare(table, COLUMNS))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
