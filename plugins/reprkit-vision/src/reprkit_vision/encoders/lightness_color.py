"""Lightness and color of a picture, read by one encoder each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reprkit import Encoder, Features, Field, Signature, create
from reprkit.errors import BuildError
from reprkit.layers.field_checks import image_shape
from reprkit.types import Batch

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R BT.601


class LightnessColor(Encoder):
    """Two encoders side by side: one reads lightness, the other reads color; their tokens are joined (b n d1+d2).

    ::

        x (b h w 3) ──┬─► Y = 0.299 R + 0.587 G + 0.114 B   (b h w 1) ──► encoder ──┬──► (b n d1+d2)
                      └─► B - Y, R - Y                      (b h w 2) ──► encoder ──┘

    What is read from lightness, such as a shape, depends on a color by its brightness only, so that it is also recognized in a
    color in which training never shows it.  Both encoders must have the same grid of tokens.

    Args:
        lightness: the encoder that reads lightness, a picture of one channel with values in [0, 1].
        color: the encoder that reads the color differences, two channels with values in [-1, 1].
        data: the signature of the input, field ``x``, an image of three channels with a range.

    Raises:
        PartArgumentError: an argument of an encoder out of its range.
        BuildError: the data is no such image, or the encoders have different grids.

    Source: Zhang et al. 2017, "Split-brain autoencoders", arXiv 1611.09842, whose two networks read lightness and color; there each
    predicts what the other one reads.  Color differences: ITU-R BT.601.
    """

    mixing: Tensor
    shift: Tensor

    def __init__(
        self,
        lightness: str | Encoder = "conv(width=32, depth=3)",
        color: str | Encoder = "conv(width=16, depth=3)",
        *,
        data: Signature,
    ) -> None:
        super().__init__()
        field = data["x"]
        if field.kind != "image" or field.channels != 3 or field.range is None:
            raise BuildError(
                "encoder lightness-color reads color images (h w 3) with a range, and x is "
                f"{field.kind} data of shape {tuple(field.shape)} and range {field.range}: use conv"
            )
        height, width, _ = image_shape(field, "encoder lightness-color")
        low, high = field.range
        # In units of the data, so that one product and one sum suffice.
        luma = torch.tensor(_LUMA)
        mixing = torch.stack(
            [luma, torch.tensor([0.0, 0.0, 1.0]) - luma, torch.tensor([1.0, 0.0, 0.0]) - luma]
        )
        self.register_buffer("mixing", mixing / (high - low), persistent=False)
        self.register_buffer("shift", torch.tensor([-low / (high - low), 0.0, 0.0]), persistent=False)
        self.lightness = create(
            "encoder",
            lightness,
            data=Signature({"x": Field(kind="image", shape=(height, width, 1), range=(0.0, 1.0))}),
        )
        self.color = create(
            "encoder",
            color,
            data=Signature({"x": Field(kind="image", shape=(height, width, 2), range=(-1.0, 1.0))}),
        )
        empty = torch.zeros(1, height, width, 1)
        grids = [part.grid({"x": empty}) for part in (self.lightness, self.color)]
        if grids[0] != grids[1]:
            raise BuildError(
                f"encoder lightness-color joins tokens of equal grids, and lightness={str(self.lightness.reference)!r} "
                f"has {grids[0]}, color={str(self.color.reference)!r} {grids[1]}"
            )
        self.out_dim = self.lightness.out_dim + self.color.out_dim
        self.provides = self.lightness.provides & self.color.provides & {"keep", "any_size"}

    def _channels(self, batch: Batch) -> list[tuple[Encoder, Float[Tensor, "b h w c"]]]:
        """Return each encoder with what it reads."""
        x = batch["x"]
        x = x if x.is_floating_point() else x.float()
        mixed = torch.nn.functional.linear(x, self.mixing.to(x.dtype), self.shift.to(x.dtype))
        return [(self.lightness, mixed[..., :1]), (self.color, mixed[..., 1:])]

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the tokens (b n d1+d2); with ``keep`` only those, where both encoders can read some tokens only.

        Raises:
            BuildError: ``keep``, and an encoder that cannot.
        """
        given: dict[str, Any] = {} if keep is None else {"keep": keep}
        one, two = (part({**batch, "x": x}, **given) for part, x in self._channels(batch))
        return replace(one, x=torch.cat([one.x, two.x.to(one.x.dtype)], -1))

    def count(self, batch: Batch) -> int:
        """Return the number of tokens of an example."""
        return self.lightness.count({**batch, "x": batch["x"][..., :1]})

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return the layout of the tokens, that of both encoders."""
        return self.lightness.grid({**batch, "x": batch["x"][..., :1]})
