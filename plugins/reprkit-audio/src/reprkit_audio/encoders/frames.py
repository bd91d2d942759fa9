"""Encoder without a layer of its own: the frames as they are, one or several a token."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from reprkit import Encoder, Features, Signature
from reprkit.layers.value_embedding import Rescale
from reprkit.registry.constraints import Count
from reprkit.types import Batch
from reprkit_audio.layers.frames import downsample_mask, frame_channels, refuse_keep, token_count

_PART = "encoder frames"


class FramesEncoder(Encoder):
    """``stride`` consecutive frames, side by side, as one token (b n stride * c): the core's linear adapter is the whole encoder.

    The adapter starts as the identity where the latent has the same width.  A codebook latent then starts as vector
    quantization of spectra (Buzo et al. 1980, "Speech coding based upon vector quantization"), and training cannot lose what a
    network with random weights mixes up first.  The last token may cover fewer frames; the missing ones, and padding, are 0.

    Args:
        stride: frames a token.
        data: the signature of the input, field ``x``, a sequence (t c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not a sequence of frames.
    """

    def __init__(self, stride: Count = 1, *, data: Signature) -> None:
        super().__init__()
        self.stride, self.out_dim = stride, stride * frame_channels(data, _PART)
        self.rescale = Rescale(data["x"])

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the frames as tokens (b n stride * c).

        Raises:
            BuildError: ``keep`` is given.
        """
        refuse_keep(keep, _PART)
        x, mask = self.rescale(batch["x"]), batch.get("x_mask")
        if mask is not None:
            x = x.masked_fill(~mask.unsqueeze(-1), 0)
        count = self.count(batch)
        padded = F.pad(x, (0, 0, 0, count * self.stride - x.shape[1]))
        tokens = padded.unflatten(1, (count, self.stride)).flatten(2)
        return Features(x=tokens, mask=downsample_mask(mask, self.stride), grid=(count,))

    def count(self, batch: Batch) -> int:
        """Number of tokens: frames over ``stride``, rounded up."""
        return token_count(batch["x"].shape[1], self.stride)

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """(tokens,)."""
        return (self.count(batch),)
