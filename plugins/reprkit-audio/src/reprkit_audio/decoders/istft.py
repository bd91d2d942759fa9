"""Decoder of waveforms: the network predicts magnitudes and phases, an inverse short-time Fourier transform does the rest."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Predicate
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Likelihood, Signature, create
from reprkit.errors import BuildError, PartArgumentError
from reprkit.layers.resample_tokens import ResampleTokens, resampled_mask
from reprkit.registry.constraints import DepthOrZero, Kernel, Positive, Width, odd
from reprkit.utils.precision import without_autocast
from reprkit_audio.layers.convnext import Blocks

_MAX_MAGNITUDE = 1e2  # keeps the exponential bounded


class ISTFTDecoder(Decoder):
    """Vocos (Siuzdak 2023, arXiv 2306.00814, section 3): ConvNeXt blocks at frame rate, then one inverse transform.

    A code of t tokens becomes t * hop samples of one channel, token i the ``hop`` samples from i * hop on (b t hop), so that
    the frames of front end ``log-mel`` with the same hop correspond to them one to one.  The likelihood is a Gaussian of
    fixed ``scale`` around the waveform: objective ``vocoder`` ignores it, ``reconstruction`` uses it.

    Args:
        width: of the blocks.
        depth: number of blocks.
        kernel: frames that a block's convolution spans, odd.
        n_fft: samples of the Hann window and its transform, a multiple of ``hop``, longer by an even number of samples.
        hop: samples from one frame to the next.
        scale: the Gaussian's standard deviation.
        data: the signature of the output, field ``x``, a sequence (t 1) whose length ``hop`` divides.
        tokens: tokens of the code.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not a waveform of one channel, or ``hop`` does not divide its length.
    """

    window: Tensor

    def __init__(
        self,
        width: Width = 512,
        *,
        depth: DepthOrZero = 8,
        kernel: Annotated[Kernel, Predicate(odd)] = 7,
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
                "build(output=...) names the output field"
            )
        samples = field.shape[0]
        if samples is not None and samples % hop:
            raise BuildError(
                f"decoder istft makes {hop} samples per token, and {samples} samples are not a multiple of that"
            )
        self.n_fft, self.hop, self.scale = n_fft, hop, float(scale)
        self.tokens = None if samples is None else samples // hop
        self.place = ResampleTokens(width, tokens=tokens, places=self.tokens)
        self.in_dim = self.place.in_dim
        self.blocks = Blocks(width, kernel, depth)
        self.head = nn.Linear(width, n_fft + 2)
        self.likelihood: Likelihood = create("likelihood", "gaussian")
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Decode to a waveform as tokens (b n hop): ``length`` samples if given, else as many as the data or the code has.

        Raises:
            BuildError: there is no code, or ``hop`` does not divide ``length``.
        """
        if features is None:
            raise BuildError("decoder istft decodes a code, and there is none")
        if length is not None and length % self.hop:
            raise BuildError(
                f"decoder istft makes {self.hop} samples per token, and length={length} is not a multiple of that"
            )
        count = self.tokens if length is None else length // self.hop
        count = count or features.length or features.x.shape[1]
        mask = resampled_mask(features, count * self.place.group)
        if mask is not None and self.place.group > 1:
            mask = mask.unflatten(1, (count, self.place.group)).any(-1)
        x = self.blocks(self.place(features, count), mask)
        with without_autocast(x.device):  # in bfloat16 a phase is wrong by degrees
            wave = self.inverse_transform(self.head(x.to(self.head.weight.dtype)), mask)
        mean = wave.unflatten(1, (count, self.hop))
        params = {"mean": mean, "log_scale": mean.new_full((1, 1, 1), math.log(self.scale))}
        return Decoded(x=mean, likelihood=self.likelihood, params=params, mask=mask, grid=(count,))

    def inverse_transform(
        self, x: Float[Tensor, "b n p"], mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b samples"]:
        """Invert frames given as log-magnitudes and phases (b n n_fft+2) to n * hop samples.

        Overlapping frames are added and divided by the sum of their squared windows, also at the ends, where fewer overlap;
        masked frames are left out of both.
        """
        magnitude, phase = x.chunk(2, -1)
        spectrum = torch.polar(magnitude.exp().clamp(max=_MAX_MAGNITUDE), phase)
        pieces = torch.fft.irfft(spectrum, self.n_fft) * self.window
        envelope = self.window.square().expand(*x.shape[:2] if mask is not None else (1, x.shape[1]), -1)
        if mask is not None:
            pieces, envelope = (each * mask.unsqueeze(-1) for each in (pieces, envelope))
        return self._overlap_add(pieces) / self._overlap_add(envelope).clamp(min=1e-8)

    def _overlap_add(self, pieces: Float[Tensor, "b n f"]) -> Float[Tensor, "b samples"]:
        """Overlap-add frames, and cut what extends before the first hop and after the last."""
        group = self.n_fft // self.hop
        parts = pieces.unflatten(-1, (group, self.hop))
        total = sum(F.pad(parts[:, :, k], (0, 0, k, group - 1 - k)) for k in range(group))
        assert isinstance(total, Tensor)
        margin = (self.n_fft - self.hop) // 2
        return total.flatten(1)[:, margin : margin + pieces.shape[1] * self.hop]
