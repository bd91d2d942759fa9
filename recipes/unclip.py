"""unCLIP: pictures from sentences by way of the picture's code, with a prior from text to code and a decoder from code to picture.

CLIP puts pictures and sentences in one space (recipe ``clip``).  The prior draws the vector of a picture from that of a sentence,
and the decoder a picture from its vector; each is a diffusion with classifier-free guidance or, by a flag, a causal transformer
over quantised codes.  The table compares pictures made with the prior, without it (from the sentence's vector), and
from the real picture's vector: the share of them in which classifiers, trained on other real pictures, see every attribute; for
unseen sentences (valid), and for pairs of color and shape that training never showed (test).  The page draws variations of
pictures, ways from one to another, and pictures changed by the difference of two sentences.

Paper: Ramesh et al. 2022, "Hierarchical text-conditional image generation with CLIP latents", arXiv 2204.06125.
Data: drawn scenes (reprkit-text) of one object, 16 x 16 pixels: size, color, shape, and one of nine places.
Expected: docs/results/modalities.md.

    python recipes/unclip.py
    python recipes/unclip.py --space runs/unclip/space/model --prior autoregressive --decoder vq
    python recipes/unclip.py --latent "gaussian(dim=64, beta=0.001)"
"""

from functools import partial
from typing import Annotated, Literal

import typer
from reprkit_text.attribute_judges import AttributeJudges
from reprkit_text.picture_codes import diffusion_stage, symbol_stage
from reprkit_text.unclip import UnCLIP, joint_codes

import reprkit as rk
from reprkit.reporting import Section, compare
from reprkit.utils.collectives import rank

SCENES = "drawn-scenes(size=16, objects=1, copies=12)"
OTHERS = "drawn-scenes(size=16, objects=1, copies=6, held_out='scenes', seed=1)"
LABELS = ["size_1", "color_1", "shape_1", "place"]
WRITER = "transformer(width=96, depth=2, causal=True)"


def main(
    data: str = SCENES,
    judged: Annotated[str, typer.Option(help="other real pictures, for the judges alone")] = OTHERS,
    labels: Annotated[list[str], typer.Option(help="that the judges see; repeatable")] = LABELS,
    space: Annotated[str, typer.Option(help="folder of a model of recipe clip; empty trains one")] = "",
    prior: Literal["diffusion", "autoregressive"] = "diffusion",
    decoder: Literal["diffusion", "vq"] = "diffusion",
    encoder: Annotated[str, typer.Option(help="of the space, of pictures")] = "conv(width=32, depth=2)",
    latent: Annotated[str, typer.Option(help="of the space, of pictures, any")] = "continuous(dim=64)",
    reader: Annotated[str, typer.Option(help="of noised pictures")] = "vit(patch=4, width=96, depth=1)",
    painter: Annotated[str, typer.Option(help="of pictures")] = "vit(patch=4, width=96, depth=3, scale=1.0)",
    codebook: Annotated[str, typer.Option(help="of pictures, discrete")] = "vq(codes=256, dim=32)",
    sampling: Annotated[int, typer.Option(help="steps of DDIM, of pictures")] = 20,
    guidance: Annotated[float, typer.Option(help="of pictures by diffusion; 1 for none")] = 1.0,
    limit: Annotated[int, typer.Option(help="pictures of each part to judge")] = 300,
    lessons: Annotated[int, typer.Option(help="steps of the judges")] = 600,
    steps: Annotated[int, typer.Option(help="of the decoder; half of it for the others")] = 4_000,
    batch: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/unclip",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", clip=1.0),
) -> None:
    def fit(model: rk.Model, data: rk.Dataset, name: str, count: int = max(1, steps // 2)) -> rk.Model:
        options = {"steps": count, "warmup": count // 20, "batch": batch, "lr": lr, "seed": seed, **launch}
        return rk.fit(model, data, out=f"{out}/{name}", resume=resume, **options).model.eval()

    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    if space:
        joint = rk.load(space).eval()
    else:
        text = rk.factor("gru(width=64)", "continuous(dim=64)", input="text")
        factors = {"image": rk.factor(encoder, latent), "text": text}
        objective = rk.create("objective", "across", dim=32)
        joint = fit(rk.build(data=train, factors=factors, objective=objective, seed=seed), train, "space")
    known = joint_codes(joint, train)

    if prior == "diffusion":
        vectors = {"encoder": "mlp(widths=(256,))", "latent": "continuous(dim=256)", "prediction": "data"}
        vectors |= {"decoder": "mlp(widths=(256, 256), scale=1.0)", "steps": 50}
        first = diffusion_stage(known, "image", "text", fit=fit, seed=seed, **vectors)
    else:
        vectors = {"encoder": "mlp", "latent": "residual-vq(codes=64, layers=8, dim=32)", "decoder": "mlp"}
        first = symbol_stage(known, "image", "text", fit=fit, seed=seed, writer=WRITER, **vectors)
    if decoder == "diffusion":
        pixels = {"encoder": reader, "latent": "continuous(dim=512)", "decoder": painter}
        pixels |= {"prediction": "data", "steps": sampling, "eta": 0.0, "guidance": guidance}
        second = diffusion_stage(known, "x", "image", fit=partial(fit, count=steps), seed=seed, **pixels)
    else:
        pixels = {"encoder": "conv(width=32)", "latent": codebook, "decoder": "conv(width=32)"}
        second = symbol_stage(
            known, "x", "image", fit=partial(fit, count=steps), seed=seed, writer=WRITER, **pixels
        )

    judges = AttributeJudges(rk.dataset(judged), labels, steps=lessons, seed=seed)
    system = UnCLIP(joint, known, first, second, seed)
    found = {part.part: system.judge(judges, part, limit) for part in (valid, test)}
    table = {row: {name: found[name][row] for name in found} for row in found["test"]}
    names = ("all", *labels, "won", "lost", "p")
    columns = {f"{part}.{name}": f"{part} {name}" for part in found for name in names}
    sections = [Section("Pairs of color and shape that training never showed", system.figures(test))]
    page = rk.report(out, table, title="Pictures from sentences", columns=columns, sections=sections)
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
