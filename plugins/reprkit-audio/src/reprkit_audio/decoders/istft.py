"""Waveforms by the inverse short-time transform: the network says magnitudes and phases, a frame at a time."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Predicate
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.layers.resample_tokens import ResampleTokens, resampled_mask
from reprkit.registry.constraints import DepthOrZero, Positive, Width, odd
from reprkit.utils.precision import without_autocast
from reprkit_audio.layers.convnext import Blocks

_LOUDEST = 1e2  # of a magnitude; an exponential must not run away


class ISTFTDecoder(Decoder):
    """Vocos (Siuzdak 2023, arXiv 2306.00814, section 3): ConvNeXt blocks at the rate of frames, then one inverse transform.

    A code of t tokens gives t * hop samples of one channel, token i those from i * hop on; so a token is ``hop`` samples
    (b t hop), and the frames of front end ``log-mel`` of the same hop lie on them one to one.  The likelihood is a Gaussian
    of fixed ``scale`` around the waveform: objective ``vocoder`` does not look at it, ``reconstruction`` does.

    Args:
        width: of the blocks.
        depth: how many blocks.
        kernel: frames that a block's convolution spans, odd.
        n_fft: samples of the Hann window and its transform, a multiple of ``hop``, by an even number of samples longer.
        hop: samples from one frame to the next.
        scale: the Gaussian's standard deviation.
        data: the signature of what it makes, field ``x``, a sequence (t 1) whose length ``hop`` divides.
        tokens: tokens of the code.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is no waveform of one channel, or ``hop`` does not divide it.
    """

    window: Tensor

    def __init__(
        self,
        width: Width = 512,
        *,
        depth: DepthOrZero = 8,
        kernel: Annotated[int, Ge(1), Predicate(odd)] = 7,
        n_fft: Annotated[int, Ge(2), Le(2**20)] = 1024,
        hop: Width = 256,
        scale: Positive = 0.1,
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        super().__init__()
        if n_fft % hop or (n_fft - hop) % 2 or n_fft == hop:
            raise PartArgumentError(
                f"n_fft must be a multiple of hop, at least twice, and longer by an even number; not n_fft={n_fft}, hop={hop}"
            )
        field = data["x"]
        if field.kind != "sequence" or field.channels != 1:
            raise BuildError(
                f"decoder istft makes waveforms (t 1), and its field is {field.kind} data ({field.axes}): "
                "build(output=...) names the field that it makes"
            )
        samples = field.shape[0]
        if samples is not None and samples % hop:
            raise BuildError(f"decoder istft makes {hop} samples a token, which do not divide {samples}")
        self.n_fft, self.hop, self.scale = n_fft, hop, float(scale)
        self.tokens = None if samples is None else samples // hop
        self.place = ResampleTokens(width, tokens=tokens, places=self.tokens)
        self.in_dim = self.place.in_dim
        self.blocks = Blocks(width, kernel, depth)
        self.head = nn.Linear(width, n_fft + 2)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """The waveform as tokens (b n hop); ``length`` samples where given, else as many as the data or the code has.

        Raises:
            BuildError: there is no code, or ``hop`` does not divide ``length``.
        """
        if features is None:
            raise BuildError("decoder istft makes a waveform from its code, and there is none")
        if length is not None and length % self.hop:
            raise BuildError(f"decoder istft makes {self.hop} samples a token, which do not divide {length}")
        count = self.tokens if length is None else length // self.hop
        count = count or features.length or features.x.shape[1]
        mask = resampled_mask(features, count * self.place.group)
        if mask is not None and self.place.group > 1:
            mask = mask.unflatten(1, (count, self.place.group)).any(-1)
        x = self.blocks(self.place(features, count), mask)
        with without_autocast(x.device):  # a phase in bfloat16 is off by degrees
            wave = self.inverse_transform(self.head(x.to(self.head.weight.dtype)), mask)
        mean = wave.unflatten(1, (count, self.hop))
        params = {"mean": mean, "log_scale": mean.new_full((1, 1, 1), math.log(self.scale))}
        return Decoded(x=mean, likelihood="gaussian", params=params, mask=mask, grid=(count,))

    def inverse_transform(
        self, x: Float[Tensor, "b n p"], mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b samples"]:
        """The inverse transform of frames given as log-magnitudes and phases (b n n_fft+2): n * hop samples.

        Frames overlap and are divided by what their windows add up to, also at the ends, where fewer overlap; masked frames
        are left out of both.
        """
        magnitude, phase = x.chunk(2, -1)
        spectrum = torch.polar(magnitude.exp().clamp(max=_LOUDEST), phase)
        pieces = torch.fft.irfft(spectrum, self.n_fft) * self.window
        envelope = self.window.square().expand(*x.shape[:2] if mask is not None else (1, x.shape[1]), -1)
        if mask is not None:
            pieces, envelope = (each * mask.unsqueeze(-1) for each in (pieces, envelope))
        return self._overlap_add(pieces) / self._overlap_add(envelope).clamp(min=1e-8)

    def _overlap_add(self, pieces: Float[Tensor, "b n f"]) -> Float[Tensor, "b samples"]:
        """Frames added where they lie, without what sticks out before the first hop and after the last."""
        group = self.n_fft // self.hop
        parts = pieces.unflatten(-1, (group, self.hop))
        total = sum(F.pad(parts[:, :, k], (0, 0, k, group - 1 - k)) for k in range(group))
        assert isinstance(total, Tensor)
        beside = (self.n_fft - self.hop) // 2
        return total.flatten(1)[:, beside : beside + pieces.shape[1] * self.hop]
