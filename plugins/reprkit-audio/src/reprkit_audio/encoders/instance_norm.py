"""Content encoder: convolutions with instance norm, which removes the speaker's mean and variance."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor, nn

from reprkit import Encoder, Features, Signature
from reprkit.layers.value_embedding import Rescale
from reprkit.registry.constraints import Count, Depth, Width
from reprkit.types import Batch
from reprkit_audio.layers.convolution import Bank, Convolution
from reprkit_audio.layers.frames import (
    downsample_mask,
    frame_channels,
    halvings,
    instance_norm,
    masked_mean,
    mean_pool,
    refuse_keep,
    time_first,
    time_last,
    token_count,
    zero_padding,
)

_PART = "encoder instance-norm"


class InstanceNormEncoder(Encoder):
    """The content encoder of one-shot conversion (Chou et al. 2019, arXiv 1904.05742, section 3.2 and table 5).

    A bank of convolutions, then residual blocks of two convolutions with instance norm: each channel of an utterance loses
    its mean and variance over time, which carry the speaker's voice.  Tokens of ``stride`` frames (b n width); the last
    token covers fewer where the frames do not fill it.

    Unlike in the paper, the frames themselves are normalized first, before any nonlinearity, and the tokens are centered at
    the end: an utterance's mean code is the same for every speaker.

    Args:
        width: channels.
        depth: residual blocks.
        stride: frames per token, a power of 2; the first blocks halve.
        norm: if False, no instance norm: the paper's ablation (table 1).
        data: the signature of the input, field ``x``, a sequence (t c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not a sequence of frames.
    """

    def __init__(
        self, width: Width = 128, *, depth: Depth = 4, stride: Count = 4, norm: bool = True, data: Signature
    ) -> None:
        super().__init__()
        times = halvings(stride, depth)
        channels = frame_channels(data, _PART)
        self.stride, self.norm, self.out_dim = stride, norm, width
        self.rescale = Rescale(data["x"])
        self.bank = Bank(channels, max(1, width // 4))
        self.enter = Convolution(self.bank.out_dim, width, 1)
        self.first = nn.ModuleList(Convolution(width, width) for _ in range(depth))
        self.second = nn.ModuleList(Convolution(width, width) for _ in range(depth))
        self.strides = [2] * times + [1] * (depth - times)

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Encode every ``stride`` frames as one token (b n width).

        Raises:
            BuildError: ``keep`` is given: the encoder reads all frames.
        """
        refuse_keep(keep, _PART)
        mask = batch.get("x_mask")
        x = self._normalize(time_last(self.rescale(batch["x"])), mask)
        x = torch.relu(self._normalize(self.enter(self.bank(x, mask), mask), mask))
        for first, second, stride in zip(self.first, self.second, self.strides, strict=True):
            y = mean_pool(torch.relu(self._normalize(first(x, mask), mask)), mask, stride)
            x, mask = mean_pool(x, mask, stride), downsample_mask(mask, stride)
            x = x + torch.relu(self._normalize(second(y, mask), mask))
        if self.norm:  # a sum of rectified normalized features has a nonzero mean again
            x = x - masked_mean(x, mask).unsqueeze(-1)
        return Features(x=time_first(zero_padding(x, mask)), mask=mask, grid=(x.shape[-1],))

    def count(self, batch: Batch) -> int:
        """Number of tokens: frames over ``stride``, rounded up."""
        return token_count(batch["x"].shape[1], self.stride)

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """(tokens,)."""
        return (self.count(batch),)

    def _normalize(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return instance_norm(x, mask) if self.norm else x
