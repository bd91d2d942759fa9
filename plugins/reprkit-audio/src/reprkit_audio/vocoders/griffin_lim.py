"""Griffin-Lim: iterative search for phases that are consistent with the magnitudes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import PartArgumentError
from reprkit.registry.constraints import BelowOne, Count
from reprkit_audio.frontends.base import Sound, frontend
from reprkit_audio.frontends.log_mel import LogMel
from reprkit_audio.vocoders.base import Vocoder
from reprkit_audio.vocoders.phases import find_phases


class GriffinLim(Vocoder):
    """Synthesizes log-mel frames without training.

    Magnitudes in mel bands are mapped to frequencies by the pseudo-inverse of the filters, and phases are found by the fast
    Griffin-Lim algorithm (Perraudin et al. 2013, WASPAA).  The first phases are random, with a fixed seed.

    Args:
        steps: iterations.
        momentum: from 0 (the classic algorithm) to below 1.
        form: of the frames, a ``log-mel``.

    Raises:
        PartArgumentError: a value out of its range, or frames that are not log-mel.
    """

    def __init__(self, steps: Count = 60, momentum: BelowOne = 0.99, form: str = "log-mel") -> None:
        front = frontend(form)
        if not isinstance(front, LogMel):
            raise PartArgumentError(f"vocoder griffin-lim reads frames of log-mel, not of {form!r}")
        self.front: LogMel = front
        self.steps, self.momentum = steps, float(momentum)

    def generate(self, sound: Sound) -> Float[Tensor, " samples"]:
        """T * hop samples."""
        front, frames = self.front, sound.frames.float()
        inverse = torch.linalg.pinv(front.mel_filters(frames.device))
        magnitudes = front.denormalize(frames).matmul(inverse).clamp(min=0).T
        # Here frames are centered on multiples of the hop and cover one hop less than their number, and half a window is mirrored
        # at the ends: hence silent frames at both ends, which are cut off again.
        margin = front.n_fft // (2 * front.hop) + 1
        padded = F.pad(magnitudes, (margin, margin))
        with torch.random.fork_rng(devices=[frames.device] if frames.is_cuda else []):
            torch.manual_seed(0)
            angles = torch.rand(padded.shape, dtype=torch.complex64, device=padded.device)
        wave = find_phases(
            padded, angles, n_fft=front.n_fft, hop=front.hop, steps=self.steps, momentum=self.momentum
        )
        start = margin * front.hop - (front.hop + 1) // 2
        return wave[start : start + len(frames) * front.hop]
