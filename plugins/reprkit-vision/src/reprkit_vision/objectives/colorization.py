"""Colorization: classes of color from lightness, softly encoded, rare ones weighted more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from annotated_types import Ge, Le
from torch import Tensor

import reprkit as rk
from reprkit import Field, Objective, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Term
from reprkit.registry.constraints import Positive, Share
from reprkit.types import Batch
from reprkit_vision.color_classes import (
    CLASSES,
    NEIGHBORS,
    SIGMA,
    class_centers,
    class_weights,
    soft_encode,
)

if TYPE_CHECKING:
    from reprkit import Model


class Colorization(Objective):
    """Cross-entropy of 313 classes of color with softly encoded colors, rare classes weighted more (arXiv 1603.08511, eq. 2 to 4).

    The model's output is a map of the classes (``reprkit_vision.colorable``), counted, so that their weights are known; the batch
    also holds the colors themselves, a and b over 128.  A color is a distribution over its nearest bins, and its cell counts with
    the weight of the nearest one: the inverse of the smoothed prior mixed with a uniform one, of mean 1 over the training data.

    Loss ``colorization``: weighted nats, summed over an example's cells, averaged over examples.  Metrics: ``error``, the squared
    distance between the mean of the distribution and the color, in units of a and b, averaged over cells.

    Args:
        uniform: share of the uniform distribution in the prior, the paper's lambda; 1 weighs all colors alike.
        neighbors: number of bins that encode a color.
        sigma: of the Gaussian weights of these bins, and of the one that smooths the prior, in units of a and b.
        color: the field of the colors.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the output is no map of the 313 classes, its classes are not counted, or there is no field of colors.
    """

    needs = frozenset({"encoder", "decoder"})
    class_weights: Tensor

    def __init__(
        self,
        *,
        uniform: Share = 0.5,
        neighbors: Annotated[int, Ge(1), Le(CLASSES)] = NEIGHBORS,
        sigma: Positive = SIGMA,
        color: str = "color",
    ) -> None:
        super().__init__()
        self.uniform, self.neighbors, self.sigma, self.color = uniform, neighbors, sigma, color
        self.register_buffer("class_weights", torch.ones(CLASSES), persistent=False)

    def example(self, data: Signature) -> Mapping[str, Any]:
        """Return a lightness, and the colors and classes of its squares."""
        fields = {
            "x": Field(kind="image", shape=(8, 8, 1), range=(0.0, 1.0)),
            "color": Field(kind="image", shape=(4, 4, 2), range=(-1.0, 1.0)),
            "color_classes": Field(kind="map", shape=(4, 4), vocab=CLASSES, counts=(1,) * CLASSES),
        }
        return {
            "data": Signature(fields),
            "factors": {"code": rk.factor("conv(width=8, depth=1)", "continuous(dim=4)")},
            "decoder": {"color_classes": rk.output("conv(width=8, depth=0)")},
        }

    def bind(self, model: Model) -> None:
        """Check the output, and compute the weights of its classes."""
        field, known = model.output_field, model.signature
        if field.kind != "map" or field.vocab != CLASSES:
            raise BuildError(
                f"objective colorization predicts a map of {CLASSES} classes of color, and the output {model.output!r} is "
                f"{field.kind} {field.shape} of {field.vocab} symbols: use the data of reprkit_vision.colorable"
            )
        color = None if known is None or self.color not in known else known[self.color]
        if color is None or color.shape != (*field.shape, 2):
            raise BuildError(
                f"objective colorization needs the colors of the classes, field {self.color!r} of shape {(*field.shape, 2)}, and "
                f"the data has {'no such field' if color is None else color.shape}"
            )
        if field.counts is None or not sum(field.counts):
            raise BuildError(
                f"objective colorization weighs classes by how often they occur: call data.count_symbols({model.output!r}) first"
            )
        weights = class_weights(field.counts, self.uniform, self.sigma)
        self.class_weights = torch.from_numpy(weights).float().to(self.class_weights.device)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch."""
        shares = model.score(batch).decoded.params["logits"].squeeze(2).float().log_softmax(-1)
        color = 128 * batch[self.color].flatten(1, 2)
        target = soft_encode(color, self.neighbors, self.sigma)
        nats = -(target * shares).sum(-1)
        with torch.no_grad():
            mean = shares.exp() @ torch.from_numpy(class_centers()).to(shares)
            model.record(error=(mean - color).square().sum(-1).mean())
        return {"colorization": ((self.class_weights[target.argmax(-1)] * nats).sum(), len(color))}
