"""Decoder of frames from tokens that hold them, with a learned correction."""

from __future__ import annotations

from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Likelihood, Signature
from reprkit.decoders.head import Head, Scale
from reprkit.registry.constraints import Count, DepthOrZero, Width
from reprkit_audio.layers.convnext import Blocks, TimeConvolution
from reprkit_audio.layers.frames import align_code, frame_channels, upsample_mask

_PART = "decoder frames"


class FramesDecoder(Decoder):
    """The counterpart of encoder ``frames``: a token (b n stride * c) is cut into ``stride`` frames, and a network corrects them.

    ConvNeXt blocks (Liu et al. 2022, arXiv 2201.03545) read the frames and add a correction, such as what quantization lost and
    the neighboring frames tell.  The correction starts as zero, and the core's adapter before the decoder as the identity where
    the code has the same width.  The output layer starts as the identity, too, where the likelihood has one parameter a value, so
    not with ``scale="each"``.

    Args:
        stride: frames a token, as in the encoder.
        width: of the blocks.
        depth: number of blocks; 0 for no correction.
        likelihood: a likelihood of the data, such as "laplace"; None takes the data's own.
        scale: scale of a density such as a Gaussian: "shared" (one, learned), "each" (predicted), or a fixed number.
        data: the signature of the output, field ``x``, a sequence (t c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not a sequence of frames.
    """

    def __init__(
        self,
        stride: Count = 1,
        *,
        width: Width = 128,
        depth: DepthOrZero = 2,
        likelihood: str | Likelihood | None = None,
        scale: Scale = "shared",
        data: Signature,
    ) -> None:
        super().__init__()
        channels = frame_channels(data, _PART)
        self.stride, self.in_dim, self.frames = stride, stride * channels, data["x"].space[0]
        self.into: TimeConvolution | None = None
        self.blocks: Blocks | None = None
        self.out: nn.Linear | None = None
        if depth:
            self.into, self.blocks = TimeConvolution(channels, width, 7), Blocks(width, 7, depth)
            self.out = nn.Linear(width, channels)
            for parameter in self.out.parameters():
                nn.init.zeros_(parameter)
        self.head = Head(channels, channels, field=data["x"], likelihood=likelihood, scale=scale)
        if self.head.linear.weight.shape[0] == channels:
            nn.init.eye_(self.head.linear.weight)
            nn.init.zeros_(self.head.linear.bias)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Decode to one token per frame (b t c).

        Args:
            features: the code (b n stride * c).
            teacher: only its number of frames is used.
            length: number of frames; by default ``stride`` per token.

        Raises:
            BuildError: there is no code.
        """
        tokens, mask, frames = align_code(
            features, self.stride, _PART, length=length, usual=self.frames, teacher=teacher
        )
        x = tokens.unflatten(2, (self.stride, -1)).flatten(1, 2)[:, :frames]
        mask = upsample_mask(mask, self.stride)
        mask = None if mask is None else mask[:, :frames]
        if self.into is not None and self.blocks is not None and self.out is not None:
            x = x + self.out(self.blocks(self.into(x, mask), mask))
        return self.head(x, mask=mask, grid=(frames,))
