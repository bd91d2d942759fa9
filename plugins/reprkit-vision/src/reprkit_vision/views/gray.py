"""Random conversion to grayscale."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional

from reprkit import Signature
from reprkit.registry.constraints import Share
from reprkit_vision.views.base import View


class Gray(View):
    """Converts images to grayscale: three equal channels, the luma.

    Args:
        p: probability of changing an image (0.2: Chen et al. 2020, arXiv 2002.05709, appendix A).
        data: the signature of the data.

    Raises:
        PartArgumentError: ``p`` out of its range.
        BuildError: the data is no image of three channels.
    """

    channel_counts = (3,)

    def __init__(self, p: Share = 0.2, *, data: Signature | None = None) -> None:
        super().__init__(p, data)

    def change(self, image: Float[Tensor, "b c h w"], u: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        """The gray images."""
        # Divided, since torchvision's weights sum to 0.9999 and white must stay white.
        luma = functional.rgb_to_grayscale(image) / functional.rgb_to_grayscale(image.new_ones(3, 1, 1))
        return luma.expand(image.shape)
