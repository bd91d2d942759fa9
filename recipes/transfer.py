"""Transfer: what an encoder has learned without labels, by any objective, is worth with few labels and with all.

One encoder is trained by each objective in turn.  Frozen, it serves k-NN and a linear probe; then it is fine-tuned; each with 5 and
20 labels of a class and with all.  Beside it: the untrained encoder (fine-tuning that one is training from scratch), raw pixels and
HOG, features that need no training.  An objective is any of reprkit's, with its arguments, or `split-brain`; `colorization` and
color `split-brain` read the lightness, so color pictures.  All results are means over --repeats seeds.

Papers: He et al. 2021, arXiv 2111.06377 (masked); Chen et al. 2020, arXiv 2002.05709 (contrastive); Zhang et al. 2016, arXiv
1603.08511, and 2017, arXiv 1611.09842 (colorization, split-brain); Vincent et al. 2010, JMLR 11 (denoising); Dalal and Triggs 2005.
Data: Fashion-MNIST, 60,000 pictures of clothes: reprkit vision fetch fashion.  Any pictures with labels work.
Expected: of Fashion-MNIST, HOG has .84 by k-NN and .83 by the probe with 4,000 labels; on stamps `contrastive` with a resnet is
above HOG and the untrained network: docs/results/pictures.md.

    python recipes/transfer.py --repeats 3
    python recipes/transfer.py --objectives "masked(ratio=0.6)" --encoder "vit(patch=4)" --decoder "vit(patch=4, width=64, depth=1)"
    python recipes/transfer.py --data stamps --more "photos(size=32, side=48, crops=32, fetched=True)" --encoder "vit(patch=4)" \
        --decoder "vit(patch=4)" --objectives colorization --objectives masked
    python recipes/transfer.py --data "images(root='album', size=64, labels=True)" --encoder conv --objectives contrastive
"""

from typing import Annotated

import numpy as np
import typer
from reprkit_vision.hog import hog_features
from reprkit_vision.pretraining import join_pictures, plan_pretraining

import reprkit as rk
from reprkit.evaluation.label_subset import label_subset
from reprkit.reporting import compare
from reprkit.runs.metrics import flatten_metrics
from reprkit.utils.collectives import rank

VIEWS = "simclr-views(strength=0.5, scale=(0.3, 1.0), blur=False)"
OBJECTIVES = [
    "masked(normalize=True)",
    f"contrastive(temperature=0.2, dim=64, views={VIEWS!r})",
    "denoising",
    "split-brain",
]
EACH = [5, 20]


def main(
    data: str = "fashion",
    more: Annotated[str, typer.Option(help="further pictures to train on, without labels; empty: none")] = "",
    objectives: Annotated[list[str], typer.Option(help="repeatable; or split-brain")] = OBJECTIVES,
    encoder: str = "vit(patch=7, width=96, depth=3)",
    latent: Annotated[str, typer.Option(help="the representation")] = "continuous(dim=96)",
    decoder: Annotated[str, typer.Option(help="of pictures")] = "vit(patch=7, width=64, depth=1)",
    classes: Annotated[str, typer.Option(help="decoder of classes")] = "conv(width=32, depth=0)",
    side: Annotated[int, typer.Option(help="of the squares of a class, in pixels")] = 2,
    cell: Annotated[int, typer.Option(help="of HOG, in pixels")] = 4,
    per_class: Annotated[list[int], typer.Option(help="labels of a class; repeatable")] = EACH,
    labeled: Annotated[int, typer.Option(help="labels in all, at most; 0: all")] = 0,
    tested: Annotated[int, typer.Option(help="test pictures, at most; 0: all")] = 0,
    tune: Annotated[str, typer.Option(help="how to fine-tune")] = "finetune(lr=3e-4, start='probe')",
    repeats: Annotated[int, typer.Option(help="number of seeds, from --seed on")] = 1,
    steps: int = 2_000,
    batch: int = 256,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/transfer",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", weight_decay=0.05),
) -> None:
    options = {"steps": steps, "batch": batch, "lr": lr, "resume": resume, "warmup": steps // 20, **launch}
    networks = {"encoder": encoder, "latent": latent, "decoder": decoder, "classes": classes, "side": side}
    titles = [each.partition("(")[0] for each in objectives]
    titles = [name if titles.count(name) == 1 else f"{name} {k}" for k, name in enumerate(titles, 1)]
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(seed, seed + repeats):
        own, test = rk.dataset(data).split(seed=number)
        test = test.subset(range(min(tested or len(test), len(test))))
        known = label_subset(own, min(labeled or len(own), len(own)), seed=number)
        counts = sorted({count * (own.signature["label"].vocab or 0) for count in per_class})
        few = rk.create(
            "evaluator",
            "few-labels",
            labels=tuple(counts),
            measures=("knn", "linear-probe", tune),
            seed=number,
        )
        rows = {
            "raw pixels": rk.evaluate("raw", test, few, fit_on=known, examples=0),
            "HOG": rk.evaluate(
                "raw", hog_features(test, cell), few, fit_on=hog_features(known, cell), examples=0
            ),
        }
        seen = join_pictures(own, *([rk.dataset(more)] if more else []))
        for title, objective in zip(titles, objectives, strict=True):
            parts, read = plan_pretraining(objective, own, **networks)
            model = rk.build(data=read(seen), seed=number, **parts)
            if "untrained" not in rows:
                rows["untrained"] = rk.evaluate(model, read(test), few, fit_on=read(known), examples=0)
            rk.fit(model, read(seen), seed=number, out=f"{out}/{title}-{number}", **options)
            rows[title] = rk.evaluate(model, read(test), few, fit_on=read(known), examples=0)
        for row, results in rows.items():
            found.setdefault(row, []).append(flatten_metrics(results["few-labels"]))
    table: dict[str, dict[str, float]] = {}
    for row, each in found.items():
        values = {key: [one[key] for one in each] for key in each[0]}
        table[row] = {key: float(np.mean(every)) for key, every in values.items()}
        table[row] |= {f"{key}.deviation": float(np.std(every)) for key, every in values.items()}
    kinds = {"knn": "k-NN", "linear-probe": "probe", "finetune": "fine-tuned"}
    columns = {
        f"{kind}.{key}.accuracy": f"{title} {key}"
        for kind, title in kinds.items()
        for key in (*counts, "all")
        if f"{kind}.{key}.accuracy" in table["HOG"]
    }
    page = rk.report(out, table, columns=columns, title="Transfer")
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
