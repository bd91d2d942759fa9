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


class GriffinLim(Vocoder):
    """Synthesizes log-mel frames without training.

    Magnitudes in mel bands are mapped to frequencies by the pseudo-inverse of the filters, and phases are found by the fast
    Griffin-Lim algorithm (Perraudin et al. 2013, WASPAA), torchaudio's.  The first phases are random, with a fixed seed.

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
        from torchaudio.functional import griffinlim

        front, frames = self.front, sound.frames.float()
        inverse = torch.linalg.pinv(front.mel_filters(frames.device))
        magnitudes = front.denormalize(frames).matmul(inverse).clamp(min=0).T
        # torchaudio's frames are centered on multiples of the hop and cover one hop less than their number, and it mirrors half
        # a window at the ends: hence silent frames at both ends, which are cut off again.
        margin = front.n_fft // (2 * front.hop) + 1
        padded = F.pad(magnitudes, (margin, margin))
        with torch.random.fork_rng(devices=[frames.device] if frames.is_cuda else []):
            torch.manual_seed(0)
            wave = griffinlim(
                padded,
                torch.hann_window(front.n_fft, device=frames.device),
                front.n_fft,
                front.hop,
                front.n_fft,
                power=1.0,
                n_iter=self.steps,
                momentum=self.momentum,
                length=None,
                rand_init=True,
            )
        start = margin * front.hop - (front.hop + 1) // 2
        return wave[start : start + len(frames) * front.hop]
