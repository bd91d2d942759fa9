"""Speaker verification: Resemblyzer's speaker encoder, with the weights in its package."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.errors import DataError, ReprkitError
from reprkit.layers.recurrent import run_recurrent
from reprkit_audio.frontends.base import check_waveform
from reprkit_audio.frontends.mel import mel_filters

RATE = 16000  # Hz
WIDTH = 256  # of an embedding
_BANDS, _WINDOW, _HOP = 40, 400, 160  # 25 ms every 10 ms
_FRAMES = 160  # of a window, 1.6 s
_STEP = 77  # frames from one window to the next: 1.3 windows a second
_MIN_COVERAGE = 0.75  # a last window with a smaller share of sound is left out
_MIN_RMS = 10 ** (-30 / 20)  # root mean square of full scale, -30 dB: quieter sounds are amplified to it
_BATCH = 128  # windows


class SpeakerVerifier(nn.Module):
    """The speaker encoder of Resemblyzer 0.1.4, frozen: an LSTM of three layers, 1.42 million weights.

    Trained with GE2E (Wan et al. 2018, arXiv 1710.10467) on thousands of English speakers.  An embedding has unit length
    and no negative value, so cosines lie between 0 and 1.  It is the mean over windows of 1.6 s, as in the package; unlike
    there, pauses are kept.

    Args:
        weights: the file ``pretrained.pt``; the installed package's if None.
        device: where to run it; by default a GPU if there is one.

    Raises:
        ReprkitError: the package is not installed, or its file of weights is not the expected one.
    """

    def __init__(self, weights: Path | None = None, device: str | None = None) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_BANDS, WIDTH, 3, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)
        path = _weights_path() if weights is None else weights
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
            own = {name: state[name] for name in self.state_dict()}
            self.load_state_dict(own)
        except Exception as error:
            raise ReprkitError(
                f"{path} does not hold the weights of Resemblyzer 0.1.4: {error}\n"
                "  reinstall it: pip install --force-reinstall --no-deps Resemblyzer==0.1.4"
            ) from error
        self.eval().requires_grad_(False)
        self.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    @torch.no_grad()
    def forward(self, waves: Sequence[Float[Tensor, " samples"]]) -> Float[Tensor, "n d"]:
        """Embed waveforms of 16 kHz, of any lengths: (n 256), float32 on the CPU.

        Raises:
            DataError: no waveform, or a silent one.
        """
        if not len(waves):
            raise DataError("speaker verification needs at least one waveform, and was given none")
        windows = [_mel_windows(each) for each in waves]
        device = self.linear.weight.device
        embedded = torch.cat(
            [self._embed(part.to(device)).cpu() for part in torch.cat(windows).split(_BATCH)]
        )
        means = torch.stack([part.mean(0) for part in embedded.split([len(each) for each in windows])])
        return F.normalize(means, dim=-1)

    def _embed(self, mels: Float[Tensor, "p t c"]) -> Float[Tensor, "p d"]:
        hidden = run_recurrent(self.lstm, mels)[1][0][-1]
        return F.normalize(torch.relu(self.linear(hidden)), dim=-1)


@functools.lru_cache(maxsize=1)
def speaker_verifier() -> SpeakerVerifier:
    """The speaker verification model, loaded once.

    Raises:
        ReprkitError: as ``SpeakerVerifier``.
    """
    return SpeakerVerifier()


def is_installed() -> bool:
    """Whether the weights are installed."""
    return _find_weights() is not None


def speaker_centroid(embeddings: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """The embedding of a speaker: the mean of the utterances' embeddings, scaled to unit length."""
    return F.normalize(embeddings.mean(0), dim=0)


def _find_weights() -> Path | None:
    # Its code is not imported: it needs webrtcvad (and with it pkg_resources) and librosa.
    spec = importlib.util.find_spec("resemblyzer")
    folders = [Path(each) for each in (spec.submodule_search_locations or ())] if spec else []
    return next(
        (folder / "pretrained.pt" for folder in folders if (folder / "pretrained.pt").is_file()), None
    )


def _weights_path() -> Path:
    path = _find_weights()
    if path is None:
        raise ReprkitError(
            "speaker verification uses Resemblyzer's weights, and they are not installed\n"
            "  pip install --no-deps Resemblyzer==0.1.4   (only its file of weights is read)"
        )
    return path


def _mel_windows(wave: Float[Tensor, " samples"]) -> Float[Tensor, "p t c"]:
    """Mel spectrograms of windows of 1.6 s, the last one padded with silence."""
    wave = check_waveform(wave).cpu()
    rms = float(wave.square().mean().sqrt())
    if rms < 1e-6:
        raise DataError("speaker verification was given a silent waveform")
    wave = wave * max(1.0, _MIN_RMS / rms)
    frames = -(-(len(wave) + 1) // _HOP)
    starts = list(range(0, max(1, frames - _FRAMES + _STEP + 1), _STEP))
    if len(starts) > 1 and (len(wave) / _HOP - starts[-1]) / _FRAMES < _MIN_COVERAGE:
        del starts[-1]
    padded = F.pad(wave, (0, max(0, (starts[-1] + _FRAMES) * _HOP - len(wave))))
    mel = _mel_spectrogram(padded)
    return torch.stack([mel[start : start + _FRAMES] for start in starts])


def _mel_spectrogram(wave: Float[Tensor, " samples"]) -> Float[Tensor, "t c"]:
    """Power in mel bands, without a logarithm: librosa's ``melspectrogram`` with its defaults."""
    window = torch.hann_window(_WINDOW)
    spectrum = torch.stft(
        wave, _WINDOW, _HOP, window=window, center=True, pad_mode="constant", return_complex=True
    )
    return spectrum.abs().square().T.matmul(mel_filters(_WINDOW // 2 + 1, _BANDS, RATE))
