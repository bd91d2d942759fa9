"""Figures of docs/results/modalities.md: a trained ``clip`` of drawn scenes, searched in all scenes, and the picture of its space.

    python tests/benchmarks/figures_clip.py runs/clip [--seed 0] [--picture docs/images/joint_space.png]

All scenes that the recipe ranks beside each other hold a held-out pair of color and shape.  Here each of them is searched among all
12,640 scenes, those of training included, which a model knows better: one that takes a new pair for a known one fails here.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from sklearn.decomposition import PCA

import reprkit as rk

BATCH = 256
COLORS = {"image": "#2a6fdb", "text": "#e0662a"}


def vectors(model: rk.Model, data: rk.Dataset) -> dict[str, np.ndarray]:
    """Return the unit vectors of both factors (n d), in the order of the data."""
    parts: dict[str, list[np.ndarray]] = {"image": [], "text": []}
    for rows in torch.arange(len(data)).split(BATCH):
        batch = data.batch(rows)
        for name, found in parts.items():
            found.append(model.joint_vectors(batch, name, to="numpy"))
    return {name: np.concatenate(found).astype(np.float64) for name, found in parts.items()}


def recall(queries: np.ndarray, own: np.ndarray, others: np.ndarray, k: int) -> float:
    """Return the share of queries whose counterpart (row of ``own``) is among the first k of ``own`` and ``others``."""
    target = (queries * own).sum(1, keepdims=True)
    beside = queries @ own.T
    np.fill_diagonal(beside, -np.inf)
    better = (beside >= target).sum(1) + (queries @ others.T >= target).sum(1)
    return float((better < k).mean())


def draw(sides: dict[str, np.ndarray], path: Path, count: int = 1_000) -> None:
    """Save the principal plane of both factors' vectors, with a line from each of 15 pictures to its sentence."""
    from matplotlib.figure import Figure

    points = PCA(2).fit_transform(np.concatenate([side[:count] for side in sides.values()]))
    figure = Figure(figsize=(6, 5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for (name, color), part in zip(COLORS.items(), np.split(points, 2), strict=True):
        axes.plot(*part.T, ".", color=color, markersize=4, alpha=0.6, label=name)
    axes.plot(*np.stack(np.split(points, 2))[:, :15].transpose(2, 0, 1), color="#333333", linewidth=1)
    axes.legend(frameon=False)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.savefig(path)


def main(
    run: Path,
    seed: Annotated[int, typer.Option(help="of the recipe")] = 0,
    picture: Annotated[Path | None, typer.Option(help="file of the drawn space")] = None,
) -> None:
    """Print R@1 and R@5 of the test part's scenes among themselves and among all scenes."""
    data = rk.dataset("drawn-scenes")
    model = rk.load(run / "model").eval()
    known, test = data.split(seed=seed)
    there, here = vectors(model, known), vectors(model, test)
    for query, target in (("image", "text"), ("text", "image")):
        for k in (1, 5):
            alone = recall(here[query], here[target], here[target][:0], k)
            among = recall(here[query], here[target], there[target], k)
            print(f"{query} to {target}, R@{k}: of {len(test):,} {alone:.4f}, of {len(data):,} {among:.4f}")
    if picture is not None:
        draw(here, picture)


if __name__ == "__main__":
    typer.run(main)
