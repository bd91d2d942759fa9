"""AutoVC's decoder: convolutions, LSTM layers and a postnet."""

from __future__ import annotations

from dataclasses import replace

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Signature
from reprkit.decoders.head import Head, Scale
from reprkit.registry.constraints import Count, Depth, Width
from reprkit_audio.layers.convolution import ChannelNorm, Convolution
from reprkit_audio.layers.frames import (
    align_code,
    frame_channels,
    time_first,
    time_last,
    upsample,
    upsample_mask,
)
from reprkit_audio.layers.lstm import LSTM

_PART = "decoder conv-lstm"


class ConvLSTMDecoder(Decoder):
    """The decoder of AutoVC (Qian et al. 2019, arXiv 1905.05879, section 4.3 and figure 3c).

    The code is repeated over its frames and concatenated with the condition (the speaker's code) at every frame:
    convolutions, LSTM layers and a linear map make a first estimate, to which a stack of convolutions, the postnet (Shen et
    al. 2018, arXiv 1712.05884), adds a correction.  The first estimate is ``Decoded.params["initial"]`` (b t c), which
    objective ``autovc`` also scores.

    LayerNorm over channels replaces the paper's BatchNorm.

    Args:
        width: channels of the convolutions; the paper has 512.
        depth: convolutions.
        memory: width of the LSTM's state; the paper has 1024.
        layers: LSTM layers.
        postnet: convolutions of the postnet; the paper has 5.
        stride: frames per token of the code, as in the encoder.
        condition_dim: width of the condition, the speaker's code.
        scale: of the Gaussian: "shared" (one, learned), "each" (predicted), or a fixed standard deviation.
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
        depth: Depth = 3,
        memory: Width = 256,
        layers: Depth = 1,
        postnet: Depth = 5,
        stride: Count = 16,
        condition_dim: Width = 64,
        scale: Scale = "shared",
        data: Signature,
    ) -> None:
        super().__init__()
        channels = frame_channels(data, _PART)
        self.in_dim, self.condition_dim, self.stride = width, condition_dim, stride
        self.frames = data["x"].space[0]
        widths = [width + condition_dim] + [width] * depth
        self.layers = nn.ModuleList(Convolution(widths[index], width) for index in range(depth))
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(depth))
        self.lstm = LSTM(width, memory, depth=layers)
        self.head = Head(memory, channels, field=data["x"], likelihood="gaussian", scale=scale)
        ends = [channels] + [width] * (postnet - 1) + [channels]
        self.postnet = nn.ModuleList(Convolution(ends[index], ends[index + 1]) for index in range(postnet))
        self.postnorms = nn.ModuleList(ChannelNorm(width) for _ in range(postnet - 1))

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
        x = upsample(time_last(tokens), self.stride)[..., :frames]
        mask = upsample_mask(mask, self.stride)
        mask = None if mask is None else mask[:, :frames]
        if condition is None:
            condition = x.new_zeros(len(x), self.condition_dim)
        x = torch.cat([x, repeat(condition.to(x.dtype), "b c -> b c t", t=frames)], 1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x, mask)))
        decoded = self.head(self.lstm(time_first(x), mask), mask=mask, grid=(frames,))
        initial = decoded.params["mean"]
        correction = time_last(initial)
        for layer, norm in zip(self.postnet[:-1], self.postnorms, strict=True):
            correction = torch.tanh(norm(layer(correction, mask)))
        mean = initial + time_first(self.postnet[-1](correction, mask))
        return replace(decoded, x=mean, params={**decoded.params, "mean": mean, "initial": initial})
