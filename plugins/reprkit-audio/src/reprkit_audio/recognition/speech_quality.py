"""Speech quality without a reference: DNSMOS P.835, with the network in the package speechmos."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError, ReprkitError
from reprkit_audio.frontends.base import check_waveform
from reprkit_audio.waveforms import is_silent

RATE = 16000  # Hz
MISSING = "DNSMOS is not installed: pip install 'reprkit-audio[judges]' and pip install --no-deps speechmos==0.0.1.1"
_SAMPLES = 144160  # of the network's window, 9.01 s
# From the network's outputs to the scale of listeners (1 to 5), as in the package: highest power first.
_SIGNAL = (-0.08397278, 1.22083953, 0.0052439)
_BACKGROUND = (-0.13166888, 1.60915514, -0.39604546)
_OVERALL = (-0.06766283, 1.11546468, 0.04602535)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Predicted mean opinion scores from 1 (bad) to 5 (excellent).

    Attributes:
        overall: of the whole.
        signal: of the speech.
        background: of the background noise.
    """

    overall: float
    signal: float
    background: float


class SpeechQuality:
    """DNSMOS P.835 (Reddy et al. 2022, arXiv 2110.01763): opinion scores of noisy speech, predicted by a network of 1.2 MB.

    Only the file of the network is read from the package; its code needs librosa and pandas.

    Raises:
        ReprkitError: speechmos or onnxruntime is not installed.
    """

    def __init__(self) -> None:
        path = _find_network()
        if path is None or not is_installed():
            raise ReprkitError(f"the quality cannot be rated, since {MISSING}")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._network: Any = onnxruntime.InferenceSession(str(path), options)

    def __call__(self, waves: Sequence[Float[Tensor, " samples"]]) -> list[Quality]:
        """Rate waveforms of 16 kHz in [-1, 1], of any lengths: the mean over windows of 9.01 s every second.

        A shorter waveform is doubled until it is long enough, as in the package.

        Raises:
            DataError: it is no waveform, or silent.
        """
        return [self._rate(wave) for wave in waves]

    def _rate(self, wave: Float[Tensor, " samples"]) -> Quality:
        samples = check_waveform(wave).cpu().numpy()
        if is_silent(wave):
            raise DataError("speech quality was given a silent waveform")
        while len(samples) < _SAMPLES:
            samples = np.concatenate([samples, samples])
        count = int(len(samples) // RATE - _SAMPLES / RATE) + 1
        windows = np.stack([samples[at * RATE : at * RATE + _SAMPLES] for at in range(count)])
        raw = np.concatenate([self._network.run(None, {"input_1": each[None]})[0] for each in windows])
        signal, background, overall = (
            float(np.polyval(polynomial, raw[:, column]).mean())
            for column, polynomial in enumerate((_SIGNAL, _BACKGROUND, _OVERALL))
        )
        return Quality(overall=overall, signal=signal, background=background)


@functools.lru_cache(maxsize=1)
def speech_quality() -> SpeechQuality:
    """The network, loaded once.

    Raises:
        ReprkitError: as ``SpeechQuality``.
    """
    return SpeechQuality()


def is_installed() -> bool:
    """Whether the network and onnxruntime are installed."""
    return _find_network() is not None and importlib.util.find_spec("onnxruntime") is not None


def _find_network() -> Path | None:
    spec = importlib.util.find_spec("speechmos")
    folders = [Path(each) for each in (spec.submodule_search_locations or ())] if spec else []
    paths = [folder / "dnsmos_models" / "sig_bak_ovr.onnx" for folder in folders]
    return next((path for path in paths if path.is_file()), None)
