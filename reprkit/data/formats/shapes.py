"""Shapes: a square, an ellipse or a heart on a black image; five factors of variation, every combination once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.collation import to_index
from reprkit.data.signature import Field, Signature

SHAPES = ("square", "ellipse", "heart")
_RADIUS = 0.2  # of the largest shape, as a share of the image's width
_MARGIN = 0.22  # of the centers from the border
_BLOCK = 256  # images that are drawn at a time

Values = Annotated[int, Ge(2), Le(64)]


class Shapes(Dataset):
    """White shapes on black, drawn from five factors: shape, scale, orientation and both coordinates of the center.

    After dSprites (Matthey et al. 2017), the test of disentanglement of Higgins et al. 2017, Kim and Mnih 2018 and Chen et al.
    2018: each combination of the factors' values is one example.  Orientations cover a quarter turn by default, where dSprites'
    cover a whole one: a square that is turned by a quarter is the same image, and no code can tell it.
    ``shapes(size=64, orientations=40, positions=32, turn=360)`` has dSprites' 737,280 combinations.

    Images are drawn when they are read; a pixel that the border crosses is gray.  ``split`` divides by a hash of the combination.

    Fields: ``x`` image (size size 1), float32 in [0, 1]; labels ``shape`` (3 classes), ``scale``, ``orientation``, ``position_x``
    (from left to right) and ``position_y`` (from top to bottom), numbered in the order of their values.

    Args:
        size: width and height in pixels.
        scales: number of scales, from half of the largest to the largest.
        orientations: number of orientations, at equal steps from 0.
        positions: number of values of each coordinate.
        turn: degrees that the orientations cover.
    """

    def __init__(
        self,
        size: Annotated[int, Ge(8), Le(256)] = 32,
        *,
        scales: Values = 6,
        orientations: Values = 8,
        positions: Values = 16,
        turn: Annotated[float, Gt(0), Le(360)] = 90.0,
    ) -> None:
        self.size = size
        centers = torch.linspace(_MARGIN, 1 - _MARGIN, positions)
        self.factors = {
            "shape": torch.arange(float(len(SHAPES))),
            "scale": torch.linspace(0.5, 1, scales),
            "orientation": torch.arange(orientations) * (turn / orientations),
            "position_x": centers,
            "position_y": centers,
        }
        self.counts = tuple(len(values) for values in self.factors.values())
        labels = {
            name: Field(kind="label", shape=(), vocab=len(values)) for name, values in self.factors.items()
        }
        labels["shape"] = Field(kind="label", shape=(), vocab=len(SHAPES), classes=SHAPES)
        self.signature = Signature(
            {"x": Field(kind="image", shape=(size, size, 1), range=(0.0, 1.0)), **labels}
        )

    def __len__(self) -> int:
        """Return the number of combinations."""
        return math.prod(self.counts)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one example; a negative index counts from the end."""
        position = range(len(self))[index]  # IndexError past the end, as iteration expects
        return {name: value[0] for name, value in self.batch([position]).items()}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Draw the examples at ``indices`` (b,)."""
        labels = self._labels(to_index(indices))
        values = {name: self.factors[name][label] for name, label in labels.items()}
        centers = torch.stack([values["position_x"], values["position_y"]], 1)
        x = draw_shapes(labels["shape"], values["scale"], values["orientation"], centers, self.size)
        return {"x": x, **labels}

    def label_values(self, field: str) -> Int[Tensor, " n"]:
        """Return a label field of all examples (n,), without drawing them."""
        return self._labels(torch.arange(len(self)))[field]

    def identities(self) -> list[str]:
        """Return the values of the factors, as text: the same in every size and with more values of a factor."""
        labels = self._labels(torch.arange(len(self))).values()
        names = [
            list(SHAPES) if name == "shape" else [f"{name} {value:.4f}" for value in values.tolist()]
            for name, values in self.factors.items()
        ]
        columns = [
            [each[number] for number in label.tolist()] for each, label in zip(names, labels, strict=True)
        ]
        return [", ".join(row) for row in zip(*columns, strict=True)]

    def _labels(self, index: Int[Tensor, " b"]) -> dict[str, Int[Tensor, " b"]]:
        """Return the labels of examples; the last one changes fastest."""
        return dict(zip(self.factors, torch.unravel_index(index, self.counts), strict=True))


def draw_shapes(
    shape: Int[Tensor, " b"],
    scale: Float[Tensor, " b"],
    degrees: Float[Tensor, " b"],
    centers: Float[Tensor, "b 2"],
    size: int,
) -> Float[Tensor, "b h w 1"]:
    """Draw white shapes on black.

    A pixel is as white as the share of it that a straight border at the distance of the shape's border would cover.

    Args:
        shape: number in SHAPES.
        scale: 1 for the largest, whose radius is a fifth of the image.
        degrees: orientation, clockwise.
        centers: x y, as shares of the image.
        size: width and height in pixels.
    """
    images = torch.zeros(len(shape), size, size)
    line = (torch.arange(size) + 0.5) / size
    for first in range(0, len(shape), _BLOCK):
        rows = slice(first, first + _BLOCK)
        # Pixels in units of the shape's radius, turned back.
        unit = _RADIUS * scale[rows]
        across, down = (((line - center[:, None]) / unit[:, None]) for center in centers[rows].T)
        sine, cosine = (f(torch.deg2rad(degrees[rows]))[:, None, None] for f in (torch.sin, torch.cos))
        x = cosine * across[:, None, :] + sine * down[:, :, None]
        y = cosine * down[:, :, None] - sine * across[:, None, :]
        for number, distance in enumerate(_DISTANCES):
            own = shape[rows] == number
            pixels = distance(x[own], y[own]) * (unit[own] * size)[:, None, None]
            images[rows][own] = (0.5 - pixels).clamp(0, 1)
    return images.unsqueeze(-1)


def _square(x: Tensor, y: Tensor) -> Tensor:
    """Return the signed distance from a square of radius 1, negative inside."""
    return _box(x, y, math.sqrt(0.5))


def _ellipse(x: Tensor, y: Tensor) -> Tensor:
    """Return the distance from an ellipse of axes 1 and 1/2 to first order, exact at its border and along its axes."""
    inner = torch.hypot(x, 2 * y)
    return inner * (inner - 1) / torch.hypot(x, 4 * y).clamp(min=1e-6)


def _heart(x: Tensor, y: Tensor) -> Tensor:
    """Return the distance from a heart: a square on its corner, and a disk on each of its upper sides; the tip is down."""
    half = 0.55
    offset = half * math.sqrt(0.5)
    y = y - 0.2  # the middle of the heart is in the center
    body = _box((x + y) * math.sqrt(0.5), (y - x) * math.sqrt(0.5), half)
    disks = torch.hypot(x.abs() - offset, y + offset) - half
    return torch.minimum(body, disks)


def _box(x: Tensor, y: Tensor, half: float) -> Tensor:
    across, down = x.abs() - half, y.abs() - half
    outside = torch.hypot(across.clamp(min=0), down.clamp(min=0))
    return outside + torch.maximum(across, down).clamp(max=0)


_DISTANCES = (_square, _ellipse, _heart)
