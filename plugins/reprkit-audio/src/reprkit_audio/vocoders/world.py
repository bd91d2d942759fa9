"""WORLD's synthesis: pulses and noise through the envelope, at any pitch."""

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
    """The frames, pitch and aperiodicity of front end ``world`` to a waveform (Morise et al. 2016), by pyworld.

    The pitch may be another one (``reprkit_audio.prosody``), and without aperiodicity voiced frames are taken for fully
    periodic and others for noise.

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
        pitch = self._beside("pitch", sound.pitch, len(sound.frames))
        if sound.aperiodicity is None:
            noise = np.repeat(np.where(pitch > 0, 1e-3, 1.0)[:, None], size // 2 + 1, 1)
        else:
            coded = self._beside("aperiodicity", sound.aperiodicity, len(sound.frames))
            noise = world.decode_aperiodicity(coded, front.rate, size)
        made = world.synthesize(pitch, front.decode_envelope(sound.frames), noise, front.rate, front.period)
        return torch.from_numpy(made[: len(pitch) * front.hop].astype(np.float32))

    def _beside(self, name: str, values: Tensor | None, frames: int) -> np.ndarray[Any, Any]:
        if values is None:
            raise DataError(f"vocoder world needs the {name} beside the frames, and this sound has none")
        if len(values) != frames or not torch.isfinite(values).all():
            raise DataError(
                f"vocoder world: {len(values)} values of {name} for {frames} frames, or not finite"
            )
        return np.ascontiguousarray(values.double().cpu().numpy())
