"""PCA as an autoencoder: a linear network with tied weights, trained by Adam and by L-BFGS, finds scikit-learn's subspace.

Encoder ``flat`` and decoder ``mirror`` leave one matrix W: the code is W x + b, the output W'z + c.  The least squared error is
that of the principal components; the rows of W become an orthonormal basis of their space, rotated in it.  The table holds the
largest principal angle to scikit-learn's components, the distance of W W' from the identity, the greatest difference of the codes
after rotation to their own principal axes (as a share of the first one's deviation), and the squared error.  The page draws
reconstructions, components and codes beside scikit-learn's.

Papers: Baldi & Hornik 1989, "Neural networks and principal component analysis: learning from examples without local minima",
Neural Networks 2(1); Bourlard & Kamp 1988, "Auto-association by multilayer perceptrons and singular value decomposition",
Biological Cybernetics 59.
Data: scikit-learn's digits, split 80/20 by seed; labels for colors only.  Any real data of one shape works.
Expected (five seeds, one busy core, a minute each): angles of 2e-6 to 7e-4 rad by Adam and 4e-6 to 6e-6 by L-BFGS, and PCA's error
to four digits; docs/results/classic/pca.md.

    python recipes/pca.py
    python recipes/pca.py --decoder "flat(scale=1.0)"     # not tied: the same space, found later
    python recipes/pca.py --dim 2 --data rows.npy
"""

import numpy as np
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA

import reprkit as rk
from reprkit.reporting import Images, Scatter, Section, compare
from reprkit.utils.collectives import rank

LBFGS = "lbfgs(max_iter=100, history_size=100, line_search_fn='strong_wolfe', tolerance_grad=1e-10, tolerance_change=1e-14)"
COLUMNS = {
    "pca.angle": "largest angle (rad)",
    "pca.orthonormal": "from orthonormal",
    "pca.codes": "difference of codes",
    "reconstruction.error": "reconstruction error",
}


def basis_of(model: rk.Model, dim: int) -> np.ndarray:
    """The decoder's columns (p d): its outputs for the unit vectors, less that for zero."""
    with torch.no_grad():
        decoded = model.decode(np.concatenate([np.zeros((1, dim)), np.eye(dim)]))
        outputs = model.to_batch(decoded)["x"].flatten(1).cpu().numpy()
    return (outputs[1:] - outputs[0]).T


def main(
    data: str = "digits",
    dim: int = 8,
    decoder: str = "mirror(scale=1.0)",
    steps: int = 2_000,
    lr: float = 0.03,
    lbfgs_steps: int = 20,
    examples: int = 12,
    seed: int = 0,
    out: str = "runs/pca",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(precision="fp64", device="cpu"),
) -> None:
    train, test = rk.dataset(data).split(seed=seed)
    field = train.signature["x"]
    labels = test.label_values("label").numpy() if "label" in test.signature.label_fields() else None
    rows, new = (part.batch(range(len(part)))["x"].flatten(1).double().numpy() for part in (train, test))
    pca = PCA(dim).fit(rows)
    expected = pca.transform(new)
    table = {"PCA": rk.evaluate(f"pca(dim={dim})", test, "reconstruction", fit_on=train)}
    codes, pictures = {"PCA": expected}, {"data": new, "PCA": pca.inverse_transform(expected)}
    components = {"PCA": pca.components_}
    trainings = {
        "Adam": {"optimizer": "adam", "steps": steps, "lr": lr, "schedule": "cosine"},
        "L-BFGS": {"optimizer": LBFGS, "steps": lbfgs_steps, "lr": 1.0},
    }
    for name, options in trainings.items():
        model = rk.build(
            data=train, encoder="flat", latent=f"continuous(dim={dim})", decoder=decoder, seed=seed
        )
        rk.fit(
            model,
            train,
            batch=len(train),
            seed=seed,
            out=f"{out}/{name}",
            resume=resume,
            **{**options, **launch},
        )
        basis = basis_of(model, dim)
        length = np.linalg.norm(basis) / dim**0.5  # the network reads rescaled data
        axes = PCA(dim).fit(rk.embed(model, train))
        own = length * axes.transform(rk.embed(model, test))
        signs = np.sign((own * expected).sum(0))
        codes[name] = signs * own
        components[name] = signs[:, None] * axes.components_ @ basis.T / length
        pictures[name] = model.reconstruct(test.batch(range(examples)), to="numpy")
        table[name] = rk.evaluate(model, test, "reconstruction", fit_on=train)
        table[name]["pca"] = {
            "angle": float(subspace_angles(basis, pca.components_.T).max()),
            "orthonormal": float(np.abs(basis.T @ basis / length**2 - np.eye(dim)).max()),
            "codes": float(np.abs(codes[name] - expected).max() / expected[:, 0].std()),
        }
    figures: list = [
        Scatter(title=f"Codes of {name}, first two principal axes", points=each[:, :2], labels=labels)
        for name, each in codes.items()
        if dim > 1
    ]
    if field.kind == "image":
        shown = {name: each[:examples].reshape(-1, *field.shape) for name, each in pictures.items()}
        figures.append(Images(title="Reconstructions of test images", rows=shown, span=field.range))
        shown = {name: each[:examples].reshape(-1, *field.shape) for name, each in components.items()}
        figures.append(
            Images(title="Components, rotated to their principal axes", rows=shown, colours="signed")
        )
    section = Section("Beside scikit-learn's PCA", figures)
    page = rk.report(out, table, columns=COLUMNS, sections=[section], title="PCA as a linear autoencoder")
    if rank() == 0:
        print(compare(table, COLUMNS))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
