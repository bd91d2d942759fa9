"""Image to text: captions that a decoder writes from a picture's code.

First, a contrastive stage teaches an encoder to tell the sentence of a picture from others (recipe ``clip``).  Then any latent may
stand between it and a causal decoder with attention to the code, which writes the symbols of the sentence one after another; half
of the symbols before are hidden from it in training (word dropout), and the contrastive loss is kept beside its own.  Lightness and
color are read by one encoder each: one encoder for both learns which color a shape never had, and then names a known pair of
attributes where a picture shows a new one.  Measured by the share of held-out pictures whose sentence is written exactly, beside
the most frequent sentence and the same network untrained.

Papers: Vinyals et al. 2015, "Show and tell: a neural image caption generator", arXiv 1411.4555; Xu et al. 2015, arXiv 1502.03044
(attention to the picture's cells); Yu et al. 2022, "CoCa: contrastive captioners", arXiv 2205.01917 (both losses at once).
Data: drawn scenes (reprkit-text), two shapes and a sentence; each shape has a color in which training never shows it, and every
scene of the test part holds such a pair.  Your own: a folder of pictures with a text beside each, or a table of files and texts.
Expected: all sentences of held-out pairs are exact (docs/results/modalities.md); 15 minutes of one core.

    python recipes/image_to_text.py
    python recipes/image_to_text.py --start runs/clip/model     # instead of the contrastive stage: a model of recipe clip
    python recipes/image_to_text.py --latent "vq(codes=512, dim=32)"
    python recipes/image_to_text.py --encoder "conv(width=32, depth=3)"         # one encoder for both
    python recipes/image_to_text.py --data "captions(root='album')" --encoder resnet
"""

from typing import Annotated

import typer
from reprkit_text.evaluators.exact_text import written_texts

import reprkit as rk
from reprkit.reporting import Section, Table, compare
from reprkit.utils.collectives import rank

SHOWN = 12


def main(
    data: str = "drawn-scenes",
    encoder: str = "lightness-color(lightness='conv(width=32, depth=3)', color='conv(width=16, depth=3)')",
    latent: Annotated[str, typer.Option(help="between encoder and decoder, any")] = "continuous(dim=128)",
    decoder: str = "pointer(width=128, reader=0, copy=False, forget=0.5)",
    contrastive: Annotated[
        int, typer.Option(help="steps of the first stage; 0, or --start, for none")
    ] = 1_500,
    start: Annotated[str, typer.Option(help="folder of a model whose factors are the start")] = "",
    across: Annotated[
        float, typer.Option(help="weight of the contrastive loss while writing; 0 for none")
    ] = 3.0,
    limit: Annotated[int, typer.Option(help="number of test pictures to evaluate on")] = 1_000,
    steps: int = 2_000,
    batch: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    out: str = "runs/image_to_text",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", weight_decay=0.05, clip=1.0),
) -> None:
    options = {"warmup": steps // 20, **launch}
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    image = {"image": rk.factor(encoder, latent)}
    text = {"text": rk.factor("transformer(width=64, depth=2, heads=4)", "continuous(dim=128)", input="text")}
    parts = {
        "factors": image | text if across else image,
        "decoder": {"sentence": rk.output(decoder, reads="image", field="text")},
        "objective": f"autoregressive + {across} * across(dim=64)" if across else "autoregressive",
    }
    measures = (f"exact-text(limit={limit})", "reconstruction", "codebook")

    model = rk.build(data=train, seed=seed, **parts)
    table = {"untrained": rk.evaluate(model, test, *measures, fit_on=train, examples=0)}
    first = rk.load(start) if start else None
    if contrastive and not start:
        joint = rk.build(data=train, factors=image | text, objective="across(dim=64)", seed=seed)
        stage = {
            "steps": contrastive,
            "warmup": contrastive // 20,
            "batch": 2 * batch,
            "lr": 2 * lr,
            **launch,
        }
        first = rk.fit(joint, train, seed=seed, out=f"{out}/contrastive", resume=resume, **stage).model
    model = rk.build(data=train, seed=seed, start=first, **parts)
    options |= {"valid": valid, "evaluators": ["exact-text(limit=200)"], "evaluate_every": 500}
    rk.fit(model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=out, resume=resume, **options)

    table["trained"] = rk.evaluate(model, test, *measures, fit_on=train, examples=0)
    constant = {name: table["trained"]["exact-text"][f"constant.{name}"] for name in ("exact", "words")}
    table["most frequent sentence"] = {"exact-text": constant}
    columns = {"exact-text.exact": "exact", "exact-text.words": "words", "reconstruction.nll": "nats"}
    texts = written_texts(model.eval(), test.subset(range(min(SHOWN, len(test)))))
    shown = Table(
        ["of the data", "written"], {f"{number}": list(pair) for number, pair in enumerate(texts, 1)}
    )
    sections = [Section("Sentences", [shown])]
    page = rk.report(out, table, title="Sentences of pictures", columns=columns, sections=sections)
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
