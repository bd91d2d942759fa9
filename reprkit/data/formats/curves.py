"""Curves: synthetic images with six degrees of freedom, drawn through three random points."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from reprkit.data.formats.tensors import Tensors
from reprkit.data.signature import Field, Signature
from reprkit.registry.constraints import Count, Positive, Seed

_BLOCK = 256  # images that are drawn at a time
_STEPS = 96  # points of a curve; neighboring ones are less than a pixel apart at the default size


class Curves(Tensors):
    """Smooth curves through three random points in the plane, as gray images: six numbers determine each image.

    After the "curves" of Hinton and Salakhutdinov 2006 (Science 313, supporting material), a test of deep autoencoders, whose code
    of six numbers can be exact.  The paper states the rule, three random points in two dimensions, and not how the curve is drawn,
    so errors differ from its own.  Here it is the parabola that passes the points in order at t = 0, 1/2 and 1; a pixel has
    exp(-d² / (2 pen²)) of ink, d being its distance to the curve.

    Fields: ``x`` image (size size 1), float32 in [0, 1]; ``points`` vector (6,), the coordinates x1 y1 x2 y2 x3 y3 in [0, 1], as
    shares of the image's width and height.

    Args:
        count: number of images.
        size: width and height in pixels.
        pen: deviation of the pen, in pixels.
        margin: least distance of the points from the border, as a share of the size.
        seed: of the points.
    """

    def __init__(
        self,
        count: Count = 20_000,
        *,
        size: Annotated[int, Ge(8), Le(256)] = 28,
        pen: Positive = 0.7,
        margin: Annotated[float, Ge(0), Le(0.4)] = 0.15,
        seed: Seed = 0,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        points = margin + (1 - 2 * margin) * torch.rand(count, 3, 2, generator=generator)
        super().__init__(
            {"x": draw_curves(points, size, pen), "points": points.flatten(1)},
            Signature(
                {
                    "x": Field(kind="image", shape=(size, size, 1), range=(0.0, 1.0)),
                    "points": Field(kind="vector", shape=(6,), range=(0.0, 1.0)),
                }
            ),
            name="curves",
        )


def draw_curves(points: Float[Tensor, "n 3 2"], size: int, pen: float) -> Float[Tensor, "n h w 1"]:
    """Draw the parabola through three points (x y), given as shares of the image."""
    t = torch.linspace(0, 1, _STEPS)
    # Lagrange's polynomials of the nodes 0, 1/2 and 1.
    weights = torch.stack([(1 - t) * (1 - 2 * t), 4 * t * (1 - t), t * (2 * t - 1)], 1)
    centers = (torch.arange(size) + 0.5) / size
    images = torch.empty(len(points), size, size)
    for first in range(0, len(points), _BLOCK):
        curve = weights @ points[first : first + _BLOCK]
        # A Gaussian pen is a product of a row and a column, and the nearest point has the most ink.
        ink = torch.exp(-((curve.unsqueeze(-1) - centers) * size).square() / (2 * pen**2))
        across, down = ink.unbind(2)
        image = images[first : first + _BLOCK].zero_()
        for step in range(_STEPS):
            torch.maximum(image, down[:, step, :, None] * across[:, step, None, :], out=image)
    return images.unsqueeze(-1)
