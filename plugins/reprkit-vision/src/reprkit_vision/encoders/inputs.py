"""Images as convolutional networks read them: channels first, normalised, without statistics over the batch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Signature
from reprkit.errors import BuildError, PartArgumentError

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


class Normalise(nn.Module):
    """Images (b h w c), from the range that the data promises to [0, 1], less a mean, over a deviation.

    Args:
        data: the signature; its ``x`` is an image that promises a range.
        part: what errors call the part.
        channels: how many the network reads; one channel is repeated.
        mean: of each channel, of values in [0, 1].
        std: deviation of each channel, above 0.

    Raises:
        BuildError: the data is no image, promises no range, or has another number of channels.
        PartArgumentError: ``mean`` or ``std`` is not a number a channel.
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
                f"{part} needs to know which values are black and white, and the data promises no range: say "
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
                    f"{name} is a number for each of {self.channels} channels"
                    f"{', above 0' if name == 'std' else ''}, not {tuple(value)}"
                )
        low, high = field.range
        # In data units, so that one subtraction and one division are all.
        self.register_buffer("mean", low + (high - low) * torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", (high - low) * torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
        """Channels first, floating point; in memory they stay last."""
        x = x if x.is_floating_point() else x.float()
        return (x.movedim(-1, 1) - self.mean.to(x.dtype)) / self.std.to(x.dtype)


def group_norm(width: int) -> nn.GroupNorm:
    """GroupNorm (Wu and He 2018, arXiv 1803.08494) of up to 32 groups, of four channels at least.

    It takes BatchNorm's place where a network is trained from scratch: nothing depends on the other images
    of a batch, so two ranks compute what one process would.
    """
    most = max(1, min(32, width // 4))
    return nn.GroupNorm(max(groups for groups in range(1, most + 1) if width % groups == 0), width)
