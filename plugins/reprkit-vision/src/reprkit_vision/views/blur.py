"""Random Gaussian blur."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Predicate
from jaxtyping import Float
from torch import Tensor

from reprkit import Signature
from reprkit.errors import BuildError
from reprkit.registry.constraints import Share, ascending, odd
from reprkit_vision.views.base import View, per_image, rescale


class Blur(View):
    """Blurs images with a Gaussian kernel of random width, mirrored at the border, as torchvision's ``gaussian_blur``.

    Args:
        sigma: standard deviation in pixels, (lowest, highest), above 0.
        kernel: side of the kernel in pixels, odd; None takes a tenth of the shorter side, at least 3 (Chen et
            al. 2020, arXiv 2002.05709, appendix A).
        p: probability of blurring an image.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no image, or smaller than half the kernel.
    """

    draws = 1

    def __init__(
        self,
        sigma: Annotated[
            tuple[Annotated[float, Ge(1e-3), Le(1e3)], Annotated[float, Ge(1e-3), Le(1e3)]],
            Predicate(ascending),
        ] = (0.1, 2.0),
        *,
        kernel: Annotated[int, Ge(3), Le(1023), Predicate(odd)] | None = None,
        p: Share = 0.5,
        data: Signature | None = None,
    ) -> None:
        super().__init__(p, data)
        self.sigma = sigma
        self.kernel = kernel
        if data is not None:
            self.side(*(int(size or 0) for size in data["x"].shape[:2]))

    def change(self, image: Float[Tensor, "b c h w"], u: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        """The blurred images."""
        height, width = image.shape[2:]
        side = self.side(height, width)
        half = side // 2
        sigma = rescale(u[:, 0], self.sigma)
        steps = torch.arange(-half, half + 1, device=image.device)
        weight = torch.softmax(-0.5 * (steps / sigma.unsqueeze(1)).square(), 1)  # (b side)
        x = F.pad(image, (half, half, half, half), mode="reflect")
        # A sum of shifted images; a convolution with one kernel per image would need b * c groups.
        x = sum((per_image(weight[:, k]) * x[:, :, k : k + height] for k in range(side)), x.new_zeros(()))
        return sum((per_image(weight[:, k]) * x[..., k : k + width] for k in range(side)), x.new_zeros(()))

    def side(self, height: int, width: int) -> int:
        """Side of the kernel for images of a size."""
        side = self.kernel or max(3, 2 * round((min(height, width) / 10 - 1) / 2) + 1)
        if side // 2 >= min(height, width):
            raise BuildError(
                f"{self.title}: a kernel of {side} pixels is too large for images of {height} x {width}; give "
                f"kernel= of at most {2 * min(height, width) - 1}"
            )
        return side
