"""Disentanglement: does each dimension of a code follow one factor of variation?  Six systems, and any latent by one string.

White shapes whose shape, scale, orientation and position are known.  PCA, an autoencoder, a VAE, a beta-VAE, beta-TCVAE (a penalty
on the total correlation of the code, estimated from the minibatch) and FactorVAE (the same penalty by a critic) share encoder and
decoder.  The table holds five measures of disentanglement, equal to those of disentanglement_lib: MIG, SAP, DCI, the FactorVAE
score and IRS.  The page of each run draws traversals: what changes in the image with each dimension of the code.

Papers: Higgins et al. 2017, "beta-VAE", ICLR; Burgess et al. 2018, "Understanding disentangling in beta-VAE", arXiv 1804.03599;
Chen et al. 2018, "Isolating sources of disentanglement in VAEs", arXiv 1802.04942; Kim & Mnih 2018, "Disentangling by factorising",
arXiv 1802.05983; Locatello et al. 2019, "Challenging common assumptions", arXiv 1811.12359 (the measures, and that seeds matter).
Data: 36,864 drawn images of 32 x 32, split 70/10/20 by combination of the factors; labels for evaluation only.
Expected: MIG .065, .039 and .027 of beta-TCVAE, beta-VAE and VAE, mean of five seeds; these three take eight minutes of one core
(docs/results/disentanglement.md).

    python recipes/disentangle.py
    python recipes/disentangle.py --seed 0 --seed 1 --seed 2
    python recipes/disentangle.py --systems VAE --systems "vq(codes=16, dim=2, codebooks=5)" --systems "binary(bits=16)"
    python recipes/disentangle.py --systems "gaussian(dim=10, beta=30, capacity=20, capacity_steps=2000)"   # annealed capacity
    python recipes/disentangle.py --data "shapes(size=64, orientations=40, positions=32, turn=360)"         # dSprites' combinations
"""

import re
from typing import Annotated

import typer

import reprkit as rk
from reprkit.reporting import compare
from reprkit.utils.collectives import rank

NETWORK = {
    "encoder": "mlp(widths=(256, 128))",
    "decoder": "mlp(widths=(128, 256), scale=0.2)",
}
# Weights of beta-VAE's KL, of the total correlation in beta-TCVAE (beta less 1, so that both have one beta), and in FactorVAE.
BETA, PENALTY, GAMMA = 4.0, 3.0, 10.0
SYSTEMS = ["PCA", "AE", "VAE", "beta-VAE", "beta-TCVAE", "FactorVAE"]
COLUMNS = {
    "disentanglement.mig": "MIG",
    "disentanglement.sap": "SAP",
    "disentanglement.dci.disentanglement": "DCI disentanglement",
    "disentanglement.dci.completeness": "DCI completeness",
    "disentanglement.factor_vae": "FactorVAE score",
    "disentanglement.irs": "IRS",
    "reconstruction.error": "reconstruction error",
}


def parts_of(name: str, dim: int, beta: float, penalty: float, gamma: float) -> tuple[str, str]:
    """Latent and objective of a system, or of any latent, which is trained to reconstruct."""
    gaussian = f"gaussian(dim={dim})"
    return {
        "AE": (f"continuous(dim={dim})", "reconstruction"),
        "VAE": (gaussian, "reconstruction"),
        "beta-VAE": (f"gaussian(dim={dim}, beta={beta:g})", "reconstruction"),
        "beta-TCVAE": (gaussian, f"reconstruction + {penalty:g} * total-correlation"),
        "FactorVAE": (gaussian, f"reconstruction + {gamma:g} * total-correlation(estimate='critic')"),
    }.get(name, (name, "reconstruction"))


def critics(model: rk.Model, lr: float) -> dict[str, str]:
    """The optimizer of each critic, which must learn faster than the encoder that is trained against it."""
    others = [turn for turn in model.objective.turns if turn != "main"]
    return {turn: f"adam(lr={5 * lr}, betas=(0.5, 0.9))" for turn in others}


def main(
    systems: Annotated[list[str], typer.Option(help="those above, or any latent; repeatable")] = SYSTEMS,
    data: str = "shapes",
    encoder: str = NETWORK["encoder"],
    decoder: str = NETWORK["decoder"],
    dim: Annotated[int, typer.Option(help="dimensions of the code")] = 10,
    beta: Annotated[float, typer.Option(help="weight of beta-VAE's KL")] = BETA,
    penalty: Annotated[
        float, typer.Option(help="weight of beta-TCVAE's total correlation, beside the KL")
    ] = PENALTY,
    gamma: Annotated[float, typer.Option(help="weight of FactorVAE's total correlation")] = GAMMA,
    trees: Annotated[int, typer.Option(help="of DCI; 0 omits it")] = 10,
    limit: Annotated[int, typer.Option(help="examples that the measures are fitted and computed on")] = 3_000,
    steps: int = 2_000,
    batch: Annotated[
        int, typer.Option(help="beta-TCVAE estimates the total correlation from a batch")
    ] = 1_024,
    lr: float = 3e-3,
    seed: int = 0,
    out: str = "runs/disentangle",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    for name in systems:
        if name not in SYSTEMS:
            rk.create("latent", name)  # raises for a mistyped one before anything is trained
    train, valid, test = rk.dataset(data).split(seed=seed, valid=True)
    measures = ("reconstruction", f"disentanglement(trees={trees}, limit={limit})")
    table = {}
    for name in systems:
        if name == "PCA":
            table[name] = rk.evaluate(f"pca(dim={dim})", test, *measures, fit_on=train)
            continue
        latent, objective = parts_of(name, dim, beta, penalty, gamma)
        model = rk.build(
            data=train, encoder=encoder, latent=latent, decoder=decoder, objective=objective, seed=seed
        )
        run = f"{out}/" + re.sub(r"[^\w-]+", "-", name).strip("-")
        for step in rk.loop(
            model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=run, resume=resume,
            optimizers=critics(model, lr), **launch,
        ):  # fmt: skip
            for turn in model.objective.turns:
                losses = step.model(step.batch, turn)
                step.backward(losses.total)
                step.update(turn)
            if step.every(1_000):
                step.log(losses, rk.evaluate(model, valid, "reconstruction", examples=0))
        model.save(f"{run}/model")
        table[name] = rk.evaluate(model, test, *measures, "codebook", fit_on=train)
        rk.report(run, table[name])

    page = rk.report(out, table, title="Disentanglement of known factors", columns=COLUMNS)
    if rank() == 0:
        print(compare(table, COLUMNS))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
