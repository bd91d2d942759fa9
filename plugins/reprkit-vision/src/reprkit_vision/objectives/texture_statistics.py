"""Texture statistics: a reconstruction has the correlations of filter responses of its picture, wherever the texture lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from reprkit import Objective
from reprkit.errors import BuildError
from reprkit.interfaces import Term
from reprkit.registry.constraints import Seed
from reprkit.types import Batch

if TYPE_CHECKING:
    from reprkit import Model


class TextureStatistics(Objective):
    """Squared difference of the Gram matrices of a picture and its reconstruction (Gatys et al. 2015, arXiv 1505.07376, eq. 4).

    The features are the rectified responses to random filters at several scales, which suffice for textures and need no trained
    network (Ustyuzhaninov et al. 2016, arXiv 1606.00021).  The error of a pixel punishes a texture at another place as if it were
    none, so that a model that does not know the place paints the mean; these statistics do not depend on the place.  To be added to
    an objective that reconstructs: ``"grouped(factor='texture', label='texture') + 30 * texture-statistics"``.

    Loss ``texture``: at each scale, the sum of squares of the difference of the Gram matrices (k k), each divided by the number of
    places, over that of the picture's own matrix; the mean over scales, times the elements of a picture (like nats, which are
    summed over them), averaged over examples.

    Args:
        filters: number k of filters at each scale.
        size: side of a filter in pixels.
        scales: number of scales; each halves the picture.
        seed: of the filters.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the output is no image of real values, or it is too small for the scales.
    """

    needs = frozenset({"encoder", "decoder"})
    is_penalty = True
    weight: Tensor  # (k c size size)

    def __init__(
        self,
        *,
        filters: Annotated[int, Ge(2), Le(512)] = 48,
        size: Annotated[int, Ge(2), Le(31)] = 5,
        scales: Annotated[int, Ge(1), Le(5)] = 2,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.filters, self.size, self.scales, self.seed = filters, size, scales, seed
        self.register_buffer("weight", torch.empty(0))

    def bind(self, model: Model) -> None:
        """Draw the filters for the channels of the output: each has mean 0 and norm 1."""
        field = model.output_field
        if field.kind != "image" or field.discrete:
            raise BuildError(
                f"objective texture-statistics reads images of real values, and the output is {field.kind} {field.shape}"
            )
        smallest, channels = self.size * 2 ** (self.scales - 1), field.channels
        if min(int(side or 0) for side in field.shape[:2]) < smallest:
            raise BuildError(
                f"texture-statistics of scales={self.scales}, size={self.size} needs images of at least {smallest} pixels a side"
            )
        weight = torch.randn(
            self.filters,
            channels,
            self.size,
            self.size,
            generator=torch.Generator().manual_seed(self.seed),
        )
        weight = weight - weight.mean((1, 2, 3), keepdim=True)
        self.weight = weight / weight.flatten(1).norm(dim=1)[:, None, None, None]

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch."""
        scored = model.score(batch)
        made = model.to_batch(scored.decoded)[model.output]
        given = batch[model.output]
        losses = self.difference(made, given) * given[0].numel()
        return {"texture": (losses.sum(), len(given))}

    def difference(
        self, made: Float[Tensor, "b h w c"], given: Float[Tensor, "b h w c"]
    ) -> Float[Tensor, " b"]:
        """Return the difference of the statistics of two pictures, relative to those of the second: 0 where they are equal."""
        one, two, total = made.movedim(-1, 1), given.movedim(-1, 1), made.new_zeros(len(made))
        for scale in range(self.scales):
            if scale:
                one, two = F.avg_pool2d(one, 2), F.avg_pool2d(two, 2)
            found, wanted = self._gram(one), self._gram(two)
            own = wanted.square().sum((1, 2))
            total = total + (found - wanted).square().sum((1, 2)) / (own + 1e-8)
        return total / self.scales

    def _gram(self, picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k k"]:
        """Return the mean products of the responses of all pairs of filters."""
        response = F.relu(F.conv2d(picture.float(), self.weight)).flatten(2)
        return response @ response.transpose(1, 2) / response.shape[2]
