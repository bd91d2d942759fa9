"""Input normalization of convolutional networks, channels first, and the GroupNorm that replaces BatchNorm in them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Signature
from reprkit.errors import BuildError, PartArgumentError

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


class Normalize(nn.Module):
    """Scale images (b h w c) from the data's range to [0, 1], subtract a mean and divide by a standard deviation.

    Args:
        data: the signature; its ``x`` is an image with a range.
        part: the part's name in errors.
        channels: number of channels that the network reads; a single channel is repeated.
        mean: of each channel, of values in [0, 1].
        std: standard deviation of each channel, above 0.

    Raises:
        BuildError: the data is no image, has no range, or has another number of channels.
        PartArgumentError: ``mean`` or ``std`` is not one number per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        data: Signature,
        part: str,
        *,
        channels: int | None = None,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        super().__init__()
        field = data["x"]
        if field.kind != "image":
            raise BuildError(
                f"{part} reads images (h w c), and x is {field.kind} data: use mlp or transformer"
            )
        if field.range is None:
            raise BuildError(
                f"{part} needs to know which values are black and white, and the data has no range: give "
                "range=(0, 1) in its signature"
            )
        self.channels = channels or field.channels
        if field.channels not in (1, self.channels):
            raise BuildError(
                f"{part} reads images of {self.channels} channels, or of one, and these have {field.channels}"
            )
        for name, value in (("mean", mean), ("std", std)):
            if len(value) != self.channels or (name == "std" and min(value) <= 0):
                raise PartArgumentError(
                    f"{name} must be a number for each of {self.channels} channels"
                    f"{', above 0' if name == 'std' else ''}, not {tuple(value)}"
                )
        low, high = field.range
        # In units of the data, so that one subtraction and one division suffice.
        self.register_buffer("mean", low + (high - low) * torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", (high - low) * torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
        """The normalized images (b c h w), floating point; the memory format stays channels-last."""
        x = x if x.is_floating_point() else x.float()
        return (x.movedim(-1, 1) - self.mean.to(x.dtype)) / self.std.to(x.dtype)


def group_norm(width: int) -> nn.GroupNorm:
    """GroupNorm (Wu and He 2018, arXiv 1803.08494) with up to 32 groups of at least four channels.

    It replaces BatchNorm in networks trained from scratch: nothing depends on the other images of a batch,
    so two ranks compute the same as one process.
    """
    limit = max(1, min(32, width // 4))
    return nn.GroupNorm(max(groups for groups in range(1, limit + 1) if width % groups == 0), width)
