"""What the augmentations share: draws of their own for every image, alike on all ranks, and their ranges."""

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
    """Changes each image of ``x`` (b h w c) with probability ``p``, in its own way; sizes and range are kept.

    torchvision's transforms draw once a call, so once a batch; here every image has its own draws, on its
    device, in a few calls a batch, and two ranks draw what one process would.  ``hit`` is True all over an
    image that was changed.

    Attributes:
        draws: how many uniform numbers an image takes, beside the one that decides whether.
        colours: the numbers of channels that it can read; None: any.
    """

    draws: ClassVar[int] = 0
    colours: ClassVar[tuple[int, ...] | None] = None

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
            generator: of the draws; torch's global one when None.

        Raises:
            DataError: the batch has no ``x``.
            BuildError: ``x`` is no image, or has another number of channels than it can read.
        """
        if "x" not in batch:
            raise DataError(f"{self.title} changes field 'x', and the batch has {', '.join(batch) or 'none'}")
        x = batch["x"]
        if x.ndim != 4 or not x.is_floating_point():
            raise BuildError(f"{self.title} changes real images (b h w c), not {tuple(x.shape)} {x.dtype}")
        self.check(x.shape[-1])
        device = x.device if generator is None else generator.device
        u = global_draw(
            lambda shape: torch.rand(shape, generator=generator, device=device), (len(x), 1 + self.draws)
        ).to(x.device)
        hit = (u[:, 0] < self.p).view(-1, 1, 1, 1).expand(x.shape)
        image = x.movedim(-1, 1).float()
        changed = self.change(image, u[:, 1:])
        if self.span is not None:  # rounding must not leave the range that the data promises
            low, high = image.amin().clamp(max=self.span[0]), image.amax().clamp(min=self.span[1])
            changed = changed.clamp(low, high)
        return {**batch, "x": torch.where(hit, changed.movedim(1, -1).to(x.dtype), x)}, hit

    def change(self, image: Float[Tensor, "b c h w"], u: Float[Tensor, "b k"]) -> Float[Tensor, "b c h w"]:
        """All images changed, by ``draws`` uniform numbers each."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """What errors call it."""
        return f"corruption {self.reference.name}"

    def check(self, channels: int) -> None:
        """Raise BuildError unless images of so many channels can be read."""
        if self.colours is not None and channels not in self.colours:
            wanted = " or ".join(map(str, self.colours))
            raise BuildError(f"{self.title} reads images of {wanted} channels, and these have {channels}")


def among(u: Tensor, span: tuple[float, float]) -> Tensor:
    """Uniform numbers in [0, 1) spread over a span."""
    return span[0] + (span[1] - span[0]) * u


def each(value: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1 1"]:
    """One number an image, broadcastable over images (b c h w)."""
    return value.view(-1, 1, 1, 1)
