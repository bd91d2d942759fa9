"""Decoder with adaptive instance norm: the speaker's code scales and shifts every channel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Likelihood, Signature
from reprkit.decoders.head import Head, Scale
from reprkit.registry.constraints import Count, Depth, Width
from reprkit_audio.layers.convolution import Convolution
from reprkit_audio.layers.frames import (
    Mask,
    align_code,
    frame_channels,
    halvings,
    instance_norm,
    time_first,
    time_last,
    upsample,
    upsample_mask,
)

_PART = "decoder adain"


class AdaINDecoder(Decoder):
    """The decoder of one-shot conversion (Chou et al. 2019, arXiv 1904.05742, section 3.3 and table 5).

    Residual blocks of two convolutions.  After each convolution, instance norm removes every channel's mean and variance over the
    utterance, and the condition (the speaker's code) sets new ones: adaptive instance normalization (Huang and
    Belongie 2017, arXiv 1703.06868, eq. 8).  The last blocks upsample the tokens to frames (b t c).

    Args:
        width: channels.
        depth: residual blocks.
        stride: frames per token of the code, a power of 2, as in the encoder.
        norm: if False, no instance norm, only scale and shift.
        condition_dim: width of the condition, the speaker's code.
        likelihood: a likelihood of the data, such as "laplace"; None takes the data's own.
        scale: scale of a density such as a Gaussian: "shared" (one, learned), "each" (predicted), or a fixed number.
        data: the signature of the output, field ``x``, a sequence (t c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not a sequence of frames.
    """

    condition_dim: int

    def __init__(
        self,
        width: Width = 128,
        *,
        depth: Depth = 4,
        stride: Count = 4,
        norm: bool = True,
        condition_dim: Width = 64,
        likelihood: str | Likelihood | None = None,
        scale: Scale = "shared",
        data: Signature,
    ) -> None:
        super().__init__()
        times = halvings(stride, depth)
        channels = frame_channels(data, _PART)
        self.in_dim, self.condition_dim, self.stride, self.norm = width, condition_dim, stride, norm
        self.frames = data["x"].space[0]
        self.strides = [1] * (depth - times) + [2] * times
        self.enter = Convolution(width, width, 1)
        self.first = nn.ModuleList(Convolution(width, width) for _ in range(depth))
        self.second = nn.ModuleList(Convolution(width, width) for _ in range(depth))
        self.voice = nn.Sequential(nn.Linear(condition_dim, width), nn.ReLU())
        self.affine = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2 * depth + 1))
        self.head = Head(width, channels, field=data["x"], likelihood=likelihood, scale=scale)

    def forward(
        self,
        features: Features | None,
        *,
        condition: Float[Tensor, "b c"] | None = None,
        teacher: Tensor | None = None,
        length: int | None = None,
    ) -> Decoded:
        """Decode to one token per frame (b t c); a missing condition is replaced by zeros.

        Args:
            features: the code (b n width).
            condition: the speaker's code (b condition_dim).
            teacher: only its number of frames is used.
            length: number of frames; by default ``stride`` per token.

        Raises:
            BuildError: there is no code.
        """
        tokens, mask, frames = align_code(
            features, self.stride, _PART, length=length, usual=self.frames, teacher=teacher
        )
        x = time_last(tokens)
        if condition is None:
            condition = x.new_zeros(len(x), self.condition_dim)
        voice = self.voice(condition.to(x.dtype))
        affine = iter(self.affine)
        x = self._modulate(self.enter(x, mask), mask, next(affine)(voice))
        for first, second, stride in zip(self.first, self.second, self.strides, strict=True):
            y = self._modulate(first(x, mask), mask, next(affine)(voice))
            x, y, mask = upsample(x, stride), upsample(y, stride), upsample_mask(mask, stride)
            x = x + self._modulate(second(y, mask), mask, next(affine)(voice))
        mask = None if mask is None else mask[:, :frames]
        return self.head(time_first(x)[:, :frames], mask=mask, grid=(frames,))

    def _modulate(self, x: Float[Tensor, "b d t"], mask: Mask, affine: Float[Tensor, "b e"]) -> Tensor:
        """Normalize, scale and shift; then ReLU."""
        gain, shift = affine.unsqueeze(-1).chunk(2, 1)
        x = instance_norm(x, mask) if self.norm else x
        return torch.relu(x * (1 + gain) + shift)
