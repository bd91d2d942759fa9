"""Base class of the augmentations: random parameters per image, equal for any number of ranks, within the data's range."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit import Corruption, Signature
from reprkit.errors import BuildError, DataError
from reprkit.types import Batch
from reprkit.utils.collectives import global_draw


class View(Corruption):
    """Changes each image of ``x`` (b h w c) with probability ``p`` and random parameters; keeps size and range.

    torchvision's transforms draw parameters once per call, so once per batch; here every image has its own, computed
    on its device in a few calls per batch, and two ranks draw the same as one process.  ``hit`` is True at every
    element of a changed image.

    Attributes:
        draws: number of uniform random numbers per image, without the one that decides whether to change it.
        channel_counts: the numbers of channels that the augmentation can read; None: any.
    """

    draws: ClassVar[int] = 0
    channel_counts: ClassVar[tuple[int, ...] | None] = None

    def __init__(self, p: float, data: Signature | None) -> None:
        super().__init__()
        self.p = p
        self.span: tuple[float, float] | None = (0.0, 1.0)
        if data is not None:
            field = data["x"]
            if field.kind != "image":
                raise BuildError(f"{self.title} changes images, and x is {field.kind} data")
            self.check(field.channels)
            self.span = field.range

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], Bool[Tensor, "b h w c"]]:
        """The batch with ``x`` (b h w c) changed, and ``hit`` of its shape.

        Args:
            batch: with ``x``, images.
            generator: of the random numbers; torch's global one when None.

        Raises:
            DataError: the batch has no ``x``.
            BuildError: ``x`` is no image, or has a number of channels that the augmentation cannot read.
        """
        if "x" not in batch:
            raise DataError(f"{self.title} changes field 'x', and the batch has {', '.join(batch) or 'none'}")
        x = batch["x"]
        if x.ndim != 4 or not x.is_floating_point():
            raise BuildError(f"{self.title} changes real images (b h w c), not {tuple(x.shape)} {x.dtype}")
        self.check(x.shape[-1])
        device = x.device if generator is None else generator.device
        image = x.movedim(-1, 1).float()
        u = global_draw(
            lambda shape: torch.rand(shape, generator=generator, device=device),
            (len(x), 1 + self.count_draws(image)),
        ).to(x.device)
        hit = (u[:, 0] < self.p).view(-1, 1, 1, 1).expand(x.shape)
        changed = self.change(image, u[:, 1:])
        if self.span is not None:  # rounding must not leave the data's range
            low, high = image.amin().clamp(max=self.span[0]), image.amax().clamp(min=self.span[1])
            changed = changed.clamp(low, high)
        return {**batch, "x": torch.where(hit, changed.movedim(1, -1).to(x.dtype), x)}, hit

    def change(self, image: Float[Tensor, "b c h w"], u: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        """All images changed, by ``count_draws`` uniform numbers each."""
        raise NotImplementedError

    def count_draws(self, image: Float[Tensor, "b c h w"]) -> int:
        """How many numbers ``change`` reads of each image; one that reads some for every pixel overrides it."""
        return self.draws

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"corruption {self.reference.name}"

    def require_range(self) -> tuple[float, float]:
        """Return which values are black and white; raise BuildError where the data has no range."""
        if self.span is None:
            raise BuildError(
                f"{self.title} needs to know which values are black and white, and the data has no range: give range=(0, 1) in its "
                "signature"
            )
        return self.span

    def check(self, channels: int) -> None:
        """Raise BuildError unless images with this number of channels can be read."""
        if self.channel_counts is not None and channels not in self.channel_counts:
            expected = " or ".join(map(str, self.channel_counts))
            raise BuildError(f"{self.title} reads images of {expected} channels, and these have {channels}")


def rescale(u: Tensor, interval: tuple[float, float]) -> Tensor:
    """Map uniform numbers in [0, 1) linearly to an interval."""
    return interval[0] + (interval[1] - interval[0]) * u


def per_image(value: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1 1"]:
    """Reshape one number per image so that it broadcasts over images (b c h w)."""
    return value.view(-1, 1, 1, 1)
