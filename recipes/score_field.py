"""Denoising is score matching: the vector field of a denoising autoencoder beside the gradient of the data's log-density.

A network that removes Gaussian noise of deviation s learns r(x), the mean of the clean points given a noisy one; (r(x) - x) /
s^2 is then the gradient of the log-density of the noisy data, the score.  For a mixture of Gaussians in the plane it has a
closed form; both fields are compared on a grid and drawn, beside the field of a network that was trained without noise.  Then
the data are four points, and a circle.  Applied repeatedly, r moves any point to the data: points are attractors where all
slopes of r (singular values of its Jacobian) are near 0; on the circle, a manifold of dimension one, the slope is near 0
across it and near 1 along it.

Papers: Vincent 2011, "A connection between score matching and denoising autoencoders", Neural Computation 23(7); Alain and
Bengio 2014, "What regularized auto-encoders learn from the data-generating distribution", JMLR 15, theorem 1 and section 3.3.
Data: drawn by seed: a mixture of five Gaussians, four points, a circle.
Expected (five seeds, one core, a minute): docs/results/classic/score_field.md.

    python recipes/score_field.py
    python recipes/score_field.py --deviations 0.1 --steps 6000
    python recipes/score_field.py --latent "continuous(dim=2)" --latent "continuous(dim=128)"
"""

from typing import Annotated

import numpy as np
import torch
import typer
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import reprkit as rk
from reprkit.data import Tensors
from reprkit.reporting import Curves, Section, compare
from reprkit.utils.collectives import rank

CENTERS = torch.tensor([[-1.2, -0.8], [-0.4, 1.0], [0.3, -0.2], [1.1, 0.9], [1.3, -1.0]])
WIDTHS = torch.tensor([0.25, 0.35, 0.15, 0.3, 0.2])
CORNERS = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
COLUMNS = {
    "score.cosine": "cosine", "score.weighted cosine": "cosine, by density", "score.weighted error": "error, by density",
    "slope.largest": "largest slope", "slope.smallest": "smallest slope",
    "distance.data": "data moved by", "distance.paths": "end of paths from data",
}  # fmt: skip


def mixture(deviation: float = 0.0) -> MixtureSameFamily:
    """The mixture of five Gaussians, with noise of this deviation added."""
    widths = (WIDTHS.square() + deviation**2).sqrt()
    parts = Independent(Normal(CENTERS, widths.unsqueeze(1).expand(-1, 2)), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(CENTERS))), parts)


def compare_fields(own: torch.Tensor, true: torch.Tensor, density: torch.Tensor) -> dict[str, float]:
    """Mean cosine of two fields (n 2); and cosine and relative error weighted by the density (n,)."""
    cosine, weight = torch.cosine_similarity(own, true), density / density.sum()
    error = (weight @ (own - true).square().sum(1)) / (weight @ true.square().sum(1))
    weighted = {"weighted cosine": float(weight @ cosine), "weighted error": float(error.sqrt())}
    return {"cosine": float(cosine.mean()), **weighted}


def attraction(model: rk.Model, data: torch.Tensor) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """How the network moves points of the data, and the paths of 64 random points over 20 steps (64 21 2)."""
    some = data[:64]
    slopes = torch.linalg.svdvals(model.jacobian({"x": some}, of="output")).mean(0).cpu()
    paths = [4 * torch.rand(64, 2) - 2]
    for _ in range(20):
        paths.append(model.reconstruct({"x": paths[-1]}).cpu())
    moved = (model.reconstruct({"x": some}).cpu() - some).norm(dim=1).mean()
    ends = torch.cdist(paths[-1], data[:4_096]).amin(1).mean()
    found = {
        "slope": {"largest": slopes[0], "smallest": slopes[1]},
        "distance": {"data": moved, "paths": ends},
    }
    return found, torch.stack(paths, 1).numpy()


def arrows(x: torch.Tensor, field: torch.Tensor, scale: float) -> np.ndarray:
    """Vectors (n 2) at points (n 2) as narrow triangles: the x and y of one line with gaps (2 m)."""
    ahead = scale * field
    aside = 0.12 * torch.stack([-ahead[:, 1], ahead[:, 0]], 1)
    corners = [x + aside, x + ahead, x - aside, x + aside, torch.full_like(x, torch.nan)]
    return torch.stack(corners, 1).flatten(0, 1).T.numpy()


def main(
    deviations: Annotated[list[float], typer.Option(help="of the noise; repeatable")] = [0.2, 0.4, 0.8],  # noqa: B006
    encoder: str = "mlp(widths=(64, 64), activation='tanh')",
    latent: str = "continuous(dim=64)",
    decoder: str = "mlp(widths=(64,), activation='tanh', scale=1.0)",
    size: Annotated[int, typer.Option(help="points of each data set")] = 50_000,
    steps: Annotated[int, typer.Option(help="a third of it for points and circle")] = 1_000,
    batch: int = 512,
    lr: float = 1e-2,
    seed: int = 0,
    out: str = "runs/score_field",
    resume: bool = False,
    launch: rk.Launch = rk.Launch(schedule="cosine", weight_decay=0.0, device="cpu"),
) -> None:
    def train(x: torch.Tensor, objective: str, name: str, steps: int = steps) -> rk.Model:
        data = Tensors({"x": x}, rk.Signature({"x": rk.Field(kind="vector", shape=(2,))}), name=name)
        parts = {"encoder": encoder, "latent": latent, "decoder": decoder, "objective": objective}
        how = {"steps": steps, "batch": batch, "lr": lr, "seed": seed, "resume": resume, **launch}
        return rk.fit(rk.build(data=data, seed=seed, **parts), data, out=f"{out}/{name}", **how).model

    noise = "denoising(corruption='gaussian-noise(std={:g})')"
    torch.manual_seed(seed)
    x, angle = mixture().sample((size,)), 2 * torch.pi * torch.rand(size)
    grid, coarse = (torch.cartesian_prod(*[torch.linspace(-2, 2, side)] * 2) for side in (41, 14))
    table, fields, attractors = {}, [], []
    plain = train(x, "reconstruction", "mixture-plain")
    for s in deviations:
        models = {"denoising": train(x, noise.format(s), f"mixture-{s:g}"), "plain": plain}
        points = torch.cat([grid, coarse]).requires_grad_()
        density = mixture(s).log_prob(points)
        (true,) = torch.autograd.grad(density.sum(), points)
        scale = 0.3 / float(true.norm(dim=1).quantile(0.9))
        lines = {"log-density": arrows(coarse, true[len(grid) :], scale)}
        for name, model in models.items():
            own = (model.reconstruct({"x": points.detach()}).cpu() - points.detach()) / s**2
            found = compare_fields(own[: len(grid)], true[: len(grid)], density[: len(grid)].detach().exp())
            table[f"{name}, noise {s:g}"] = {"score": found}
            lines[name] = arrows(coarse, own[len(grid) :], scale)
        lines.pop("plain")  # its errors over s^2 have no bound, so that they would fill the chart
        fields.append(Curves(title=f"Score, noise {s:g}", lines=lines, log=False, size=(4.4, 4.4)))
    for name, data in {
        "points": CORNERS.repeat(size // 4, 1),
        "circle": torch.stack([angle.cos(), angle.sin()], 1),
    }.items():
        table[name], paths = attraction(train(data, noise.format(0.2), name, steps // 3), data)
        lines = {str(number): path.T for number, path in enumerate(paths)}
        title = f"Paths of random points: {name}"
        attractors.append(Curves(title=title, lines=lines, log=False, legend=False, size=(4.4, 4.4)))
    sections = [Section("Fields", fields), Section("Attractors", attractors)]
    page = rk.report(out, table, columns=COLUMNS, sections=sections, title="Denoising and the score")
    if rank() == 0:
        print(compare(table, COLUMNS))
        print(f"\nthe page: {page}")


if __name__ == "__main__":
    rk.recipe(main)
