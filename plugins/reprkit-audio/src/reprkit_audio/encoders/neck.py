"""Content encoder with an information bottleneck: too narrow for the speaker's voice to pass."""

from __future__ import annotations

import torch
from einops import repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit import Encoder, Features, Signature
from reprkit.layers.value_embedding import Rescale
from reprkit.registry.constraints import Count, Depth, Width
from reprkit.types import Batch
from reprkit_audio.layers.convolution import ChannelNorm, Convolution
from reprkit_audio.layers.frames import (
    downsample_mask,
    frame_channels,
    refuse_keep,
    time_first,
    time_last,
    token_count,
)
from reprkit_audio.layers.lstm import LSTM

_PART = "encoder neck"


class NeckEncoder(Encoder):
    """The content encoder of AutoVC (Qian et al. 2019, arXiv 1905.05879, section 4.2 and figure 3a).

    Frames concatenated with the speaker's code (``rk.factor(..., condition="speaker")``) go through three convolutions and
    an LSTM in both directions, ``dim`` wide each; of every ``stride`` frames, the forward state at the last and the
    backward state at the first are kept, (b n 2 * dim).  Width and stride are the bottleneck: too wide, and the output keeps
    the source's voice; too narrow, and words are lost (section 3.3).  Nothing else removes the speaker.

    LayerNorm over channels replaces the paper's BatchNorm.

    Args:
        dim: of the LSTM's state in each direction; the paper has 32.
        stride: frames per token; the paper has 32 of 16 ms.  The last token may cover fewer.
        width: channels of the convolutions; the paper has 512.
        depth: convolutions.
        condition_dim: width of the condition, the speaker's code.
        data: the signature of the input, field ``x``, a sequence (t c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not a sequence of frames.
    """

    condition_dim: int

    def __init__(
        self,
        dim: Width = 16,
        *,
        stride: Count = 16,
        width: Width = 128,
        depth: Depth = 3,
        condition_dim: Width = 64,
        data: Signature,
    ) -> None:
        super().__init__()
        channels = frame_channels(data, _PART)
        self.stride, self.dim, self.out_dim, self.condition_dim = stride, dim, 2 * dim, condition_dim
        self.rescale = Rescale(data["x"])
        widths = [channels + condition_dim] + [width] * depth
        self.layers = nn.ModuleList(Convolution(widths[index], width) for index in range(depth))
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(depth))
        self.lstm = LSTM(width, dim, depth=2, both=True)

    def forward(
        self,
        batch: Batch,
        *,
        keep: Int[Tensor, "b k"] | None = None,
        condition: Float[Tensor, "b c"] | None = None,
    ) -> Features:
        """Encode every ``stride`` frames as one token (b n 2 * dim); a missing condition is replaced by zeros.

        Raises:
            BuildError: ``keep`` is given: the encoder reads all frames.
        """
        refuse_keep(keep, _PART)
        x, mask = self.rescale(batch["x"]), batch.get("x_mask")
        if condition is None:
            condition = x.new_zeros(len(x), self.condition_dim)
        conditions = repeat(condition.to(x.dtype), "b c -> b t c", t=x.shape[1])
        y = time_last(torch.cat([x, conditions], -1))
        for layer, norm in zip(self.layers, self.norms, strict=True):
            y = torch.relu(norm(layer(y, mask)))
        forward, backward = self.lstm(time_first(y), mask).split(self.dim, -1)
        first = torch.arange(0, x.shape[1], self.stride, device=x.device).expand(len(x), -1)
        last = (first + self.stride - 1).clamp(max=x.shape[1] - 1)
        if mask is not None:  # the last real frame of a token that is not full
            last = torch.minimum(last, (mask.sum(1, keepdim=True) - 1).clamp(min=0))
        tokens = torch.cat([_take_tokens(forward, last), _take_tokens(backward, first)], -1)
        return Features(x=tokens, mask=downsample_mask(mask, self.stride), grid=(tokens.shape[1],))

    def count(self, batch: Batch) -> int:
        """Number of tokens: frames over ``stride``, rounded up."""
        return token_count(batch["x"].shape[1], self.stride)

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """(tokens,)."""
        return (self.count(batch),)


def _take_tokens(x: Float[Tensor, "b t d"], indices: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
    return torch.take_along_dim(x, indices.unsqueeze(-1), 1)
