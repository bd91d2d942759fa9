"""Split-brain autoencoder: one half of a network predicts the colors of a picture from its lightness, the other half the reverse.

A picture is divided into two groups of channels, the lightness L and the colors a, b of the CIE Lab space.  Each half encodes one
group and decodes the other, so neither can copy its input; the representation of a picture is both codes together.  Any latent
may stand in the halves.  The table compares the errors with those of predicting the training set's mean, and the page shows
pictures and predictions of each output.

Paper: Zhang et al. 2017, "Split-brain autoencoders: unsupervised learning by cross-channel prediction", arXiv 1611.09842; this is
the variant that regresses both groups (section 4.1), with a Gaussian likelihood of learned scale, so that their nats add up.
Data: crops of ten color photographs that come with scikit-image and scikit-learn, split by photograph (reprkit-vision); any color
images work.
Expected (seed 0, about eight minutes of one busy core): squared error a crop 15.4 for color and 18.3 for lightness, where the mean
color of the training photographs gives 3.3 and the mean lightness 15.9.  Ten photographs are too few: on those that were held out
both halves are worse than the mean.  Real results need thousands of pictures: --data "cifar10(root='cifar')".

    python recipes/split_brain.py
    python recipes/split_brain.py --latent "vq(codes=256, dim=16)"
    python recipes/split_brain.py --data "cifar10(root='cifar')" --measures linear-probe
"""

from typing import Annotated

import torch
import typer

import reprkit as rk
from reprkit.data import Tensors
from reprkit.errors import DataError
from reprkit.reporting import compare
from reprkit.utils.collectives import rank


def divide(data: rk.Dataset) -> rk.Dataset:
    """The pictures as two fields, lightness (h w 1) in [0, 1] and color (h w 2) in [-1, 1], and the labels."""
    from skimage.color import rgb2lab

    field = data.signature["x"]
    if field.kind != "image" or field.channels != 3 or field.range != (0.0, 1.0):
        raise DataError(
            f"this recipe divides color images in [0, 1], and x is {field.kind} {field.shape} {field.range}"
        )
    batch = data.batch(range(len(data)))
    lab = torch.from_numpy(rgb2lab(batch["x"].numpy())).float()
    labels = {name: each for name, each in data.signature.items() if each.kind == "label"}
    size = field.shape[:2]
    fields = {
        "lightness": rk.Field(kind="image", shape=(*size, 1), range=(0.0, 1.0)),
        "color": rk.Field(kind="image", shape=(*size, 2), range=(-1.0, 1.0)),
    }
    values = {"lightness": lab[..., :1].clamp(0, 100) / 100, "color": lab[..., 1:] / 128}
    return Tensors(
        values | {name: batch[name] for name in labels},
        rk.Signature(fields | labels),
        name="lightness and color",
    )


def mean_error(train: rk.Dataset, test: rk.Dataset, field: str) -> float:
    """The squared error of an example when each channel is predicted by its mean over the training set."""
    known, true = (data.batch(range(len(data)))[field].double() for data in (train, test))
    return float((true - known.mean((0, 1, 2))).square().sum() / len(true))


def main(
    data: str = "photos(size=16, crops=400, side=80)",
    encoder: str = "conv(width=16, depth=2, blocks=1)",
    latent: Annotated[str, typer.Option(help="of each half")] = "continuous(dim=16)",
    decoder: str = "conv(width=16, depth=2, blocks=1)",
    measures: Annotated[
        list[str],
        typer.Option(help="further evaluators, such as linear-probe where classes recur; repeatable"),
    ] = [],  # noqa: B006
    steps: int = 1_500,
    batch: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/split_brain",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    train, valid, test = (divide(part) for part in rk.dataset(data).split(seed=seed, valid=True))
    model = rk.build(
        data=train,
        factors={
            "lightness": rk.factor(encoder, latent, input="lightness"),
            "color": rk.factor(encoder, latent, input="color"),
        },
        decoder={
            "color": rk.output(decoder, reads="lightness"),
            "lightness": rk.output(decoder, reads="color"),
        },
        seed=seed,
    )
    for step in rk.loop(
        model,
        train,
        steps=steps,
        batch=batch,
        lr=lr,
        seed=seed,
        out=out,
        resume=resume,
        **launch,
    ):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.every(500):
            step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
    model.save(f"{out}/model")
    results = rk.evaluate(model, test, "reconstruction", *measures, fit_on=train)
    found = results["reconstruction"]
    results["mean"] = {f"{name}.error": mean_error(train, test, name) for name in model.outputs}
    results["explained"] = {
        name: 1 - found[f"{name}.error"] / results["mean"][f"{name}.error"] for name in model.outputs
    }
    page = rk.report(out, results, title="Split-brain autoencoder")
    if rank() == 0:
        columns = {
            **{f"reconstruction.{name}.error": f"error of {name}" for name in model.outputs},
            **{f"mean.{name}.error": f"of the mean {name}" for name in model.outputs},
            **{f"explained.{name}": f"{name} explained" for name in model.outputs},
        }
        print(compare({"split-brain": results}, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
