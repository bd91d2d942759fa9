"""Random mirroring."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional

from reprkit import Signature
from reprkit.registry.constraints import Share
from reprkit_vision.views.base import View


class Flip(View):
    """Mirrors images left to right.  Not for digits and letters, which it turns into others.

    Args:
        p: probability of mirroring an image.
        vertical: flip upside down instead.
        data: the signature of the data.

    Raises:
        PartArgumentError: ``p`` out of its range.
        BuildError: the data is no image.
    """

    def __init__(self, p: Share = 0.5, *, vertical: bool = False, data: Signature | None = None) -> None:
        super().__init__(p, data)
        self.turn = functional.vertical_flip if vertical else functional.horizontal_flip

    def change(self, image: Float[Tensor, "b c h w"], u: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        """The mirrored images."""
        return self.turn(image)
