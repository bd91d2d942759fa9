"""CLIP: a space that pictures and sentences share, learned from pairs, for search and for classification by prompts.

An encoder reads the picture, a transformer the symbols of the sentence.  A linear map of each code, normalized, is its vector, and
the contrastive loss with a learned temperature asks every picture to find its sentence among those of the batch, and every sentence
its picture.  Any encoder and any latent may stand on either side.  Afterwards pictures of the test part are searched by their
sentences and the other way round, beside the same networks untrained and beside chance, and classified by prompts.  The page draws
the space.

Paper: Radford et al. 2021, "Learning transferable visual models from natural language supervision", arXiv 2103.00020.
Data: drawn scenes (reprkit-text), two shapes and a sentence; each shape has a color in which training never shows it, and every
scene of the test part holds such a pair.  Your own: a folder of pictures with a text beside each, or a table of files and texts.
Expected: R@1 .90 to 1.00 both ways among the 2,980 of the test part, by the seed; eight minutes of one core, see
docs/results/modalities.md.

    python recipes/clip.py
    python recipes/clip.py --encoder "vit(patch=4, width=96, depth=3)" --latent "vq(codes=512, dim=64)"
    python recipes/clip.py --data "captions(root='album')" --encoder resnet --label ""
    reprkit vision fetch stamps && python recipes/clip.py --data "named-stamps(languages=('en', 'de'))" --label "" --fold 0
    python recipes/clip.py --data "hub(path='captioned', columns={'x': 'image', 'text': 'caption'})" --label ""
"""

from typing import Annotated

import typer

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

# Shapes are read from lightness, so that they are recognized in unseen colors.
ENCODER = "lightness-color(lightness='conv(width=32, depth=3)', color='conv(width=16, depth=3)')"
# The rest of the sentence differs from prompt to prompt, so that it cancels in their mean.
PROMPTS = [
    f"a {size} {{}} {one} {relation} a {other}"
    for size in ("small", "large")
    for one in ("square", "cross")
    for relation in ("left of", "above")
    for other in ("small white ring", "large blue triangle")
]


def main(
    data: str = "drawn-scenes",
    encoder: Annotated[str, typer.Option(help="of pictures")] = ENCODER,
    latent: Annotated[str, typer.Option(help="of pictures, any")] = "continuous(dim=128)",
    text_encoder: str = "transformer(width=64, depth=2, heads=4)",
    text_latent: str = "continuous(dim=128)",
    dim: Annotated[int, typer.Option(help="of the joint space")] = 64,
    temperature: Annotated[float, typer.Option(help="at the start")] = 0.07,
    label: Annotated[str, typer.Option(help="field to classify by prompts; empty for none")] = "color_1",
    prompts: Annotated[list[str], typer.Option(help="with {} for the class; repeatable")] = PROMPTS,
    fold: Annotated[
        int, typer.Option(help="test on this of five folds by identity, from 0; -1: the data's split")
    ] = -1,
    steps: int = 1_500,
    batch: int = 128,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/clip",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", weight_decay=0.05, clip=1.0),
) -> None:
    options = {"warmup": steps // 20, **launch}
    whole = rk.dataset(data)
    train, valid, test = whole.split(seed=seed, valid=True) if fold < 0 else rk.data.fold(whole, fold)
    factors = {
        "image": rk.factor(encoder, latent),
        "text": rk.factor(text_encoder, text_latent, input="text"),
    }
    objective = rk.create("objective", "across", dim=dim, temperature=temperature)
    measures = ["retrieval", "codebook"]
    if label:
        measures.append(rk.create("evaluator", "zero-shot", label=label, prompts=tuple(prompts)))

    model = rk.build(data=train, factors=factors, objective=objective, seed=seed)
    table = {"untrained": rk.evaluate(model, test, *measures, fit_on=train, examples=0)}
    options |= {"valid": valid, "evaluators": ["retrieval"], "evaluate_every": 500}
    rk.fit(model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=out, resume=resume, **options)

    table["trained"] = rk.evaluate(model, test, *measures, fit_on=train)
    found = table["trained"]["retrieval"]
    chance = {name.removeprefix("chance."): value for name, value in found.items() if "chance." in name}
    ways = ("image_to_text", "text_to_image")
    table["chance"] = {
        "retrieval": {f"{way}.{name}": value for way in ways for name, value in chance.items()}
    }
    columns = {f"retrieval.{way}.{name}": f"{way} {name}" for way in ways for name in chance}
    if label:
        table["chance"]["zero-shot"] = {"accuracy": table["trained"]["zero-shot"]["chance"]}
        columns["zero-shot.accuracy"] = f"{label} by prompts"
    page = rk.report(out, table, title="Pictures and sentences in one space", columns=columns)
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
