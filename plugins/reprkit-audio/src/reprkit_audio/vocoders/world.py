"""Vocoder WORLD: pulses and noise filtered by the envelope, at any pitch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError, PartArgumentError
from reprkit_audio.frontends.base import Sound, frontend
from reprkit_audio.frontends.world import World, import_pyworld
from reprkit_audio.vocoders.base import Vocoder


class WorldVocoder(Vocoder):
    """Synthesizes frames, pitch and aperiodicity of front end ``world`` (Morise et al. 2016), with pyworld.

    The pitch may be changed (``reprkit_audio.prosody``); without aperiodicity, voiced frames count as fully periodic and
    others as noise.

    Args:
        form: of the frames, a ``world``.

    Raises:
        PartArgumentError: frames that are not of ``world``.
    """

    def __init__(self, form: str = "world") -> None:
        front = frontend(form)
        if not isinstance(front, World):
            raise PartArgumentError(f"vocoder world reads frames of world, not of {form!r}")
        self.front: World = front

    def generate(self, sound: Sound) -> Float[Tensor, " samples"]:
        """T * hop samples."""
        world, front = import_pyworld(), self.front
        size = world.get_cheaptrick_fft_size(front.rate)
        pitch = self._check_values("pitch", sound.pitch, len(sound.frames))
        if sound.aperiodicity is None:
            noise = np.repeat(np.where(pitch > 0, 1e-3, 1.0)[:, None], size // 2 + 1, 1)
        else:
            coded = self._check_values("aperiodicity", sound.aperiodicity, len(sound.frames))
            noise = world.decode_aperiodicity(coded, front.rate, size)
        wave = world.synthesize(pitch, front.decode_envelope(sound.frames), noise, front.rate, front.period)
        return torch.from_numpy(wave[: len(pitch) * front.hop].astype(np.float32))

    def _check_values(self, name: str, values: Tensor | None, frames: int) -> np.ndarray[Any, Any]:
        if values is None:
            raise DataError(f"vocoder world needs the {name} besides the frames, and this sound has none")
        if len(values) != frames or not torch.isfinite(values).all():
            raise DataError(
                f"vocoder world: {len(values)} values of {name} for {frames} frames, or not finite"
            )
        return np.ascontiguousarray(values.double().cpu().numpy())
