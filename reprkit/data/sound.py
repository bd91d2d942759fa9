"""Read and write sound files: one channel, one rate, float32; long files in blocks.  The only module that imports soundfile."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from reprkit.data.regular_files import check_regular
from reprkit.data.sound_headers import View, with_true_length
from reprkit.errors import DataError, PartImportError, nearest

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

File = str | os.PathLike[str] | BinaryIO

RATE = 16000  # Hz, the default
# Suffixes of the formats that libsndfile reads by their content.
SUFFIXES = frozenset(
    (".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64", ".wav", ".wave")
)  # fmt: skip
_ADVICE = "libsndfile does not decode {kind}: convert it, as by ffmpeg -i NAME{suffix} NAME.flac"
# Sound that libsndfile does not decode: suffix -> what to do.
UNDECODED = {
    suffix: _ADVICE.format(kind=kind, suffix=suffix)
    for kind, suffixes in {
        "AAC": (".aac", ".m4a", ".m4b"), "WMA": (".wma",), "AMR": (".amr", ".3ga"), "Monkey's Audio": (".ape",),
        "WavPack": (".wv",), "Musepack": (".mpc",), "Matroska": (".mka", ".weba"), "DSD": (".dsf", ".dff"),
    }.items()
    for suffix in suffixes
}  # fmt: skip
_CANCELS = (
    0.01  # power of the mean of the channels, as a share of theirs, below which they are in opposite phase
)
_PROBES = 16  # places of a file at which its channels are compared
_FULL_SCALE = 1.001  # largest value that is written without a warning: rounding exceeds 1 a little
_MAX_PEAK = 8.0  # float files slightly above 1 are clipped; far above it they have another scale
_MIN_RATE, _MAX_RATE = 1_000, 1_000_000  # Hz; sound lies far inside
_MP3_LEAD = 16 * 1152  # 16 frames of MP3
_BLOCK = 1 << 20  # frames read at a time when a file is checked
_SLICE = 1 << 14  # samples written at a time: the Vorbis encoder puts its input on the stack
_WRITE_FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
}


def read(
    path: File, rate: int = RATE, *, start: float = 0.0, stop: float | None = None, limit: bool = True
) -> Float[Tensor, " samples"]:
    """Read a sound file, or its seconds from ``start`` to ``stop``: (samples,), float32.

    Channels are averaged, other rates are resampled (polyphase filter), and any bit depth is converted.  Of channels that cancel
    each other (opposite phase) the loudest is taken.

    Args:
        path: WAV, FLAC, Ogg Vorbis or Opus, MP3, AIFF; or an open binary file.
        rate: sampling rate of the result, in Hz.
        start: seconds to skip at the beginning of the file.
        stop: second of the file to stop at; None reads to the end.
        limit: clip values to [-1, 1], and raise for values beyond 8; False returns them unchanged.

    Raises:
        DataError: no such file, a file without sound, or invalid values.
        PartImportError: soundfile is not installed.
    """
    import torch

    pieces = list(blocks(path, rate, start=start, stop=stop, limit=limit))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def blocks(
    path: File,
    rate: int = RATE,
    *,
    seconds: float = 30.0,
    start: float = 0.0,
    stop: float | None = None,
    limit: bool = True,
) -> Iterator[Float[Tensor, " samples"]]:
    """Read a sound file in pieces, for files larger than memory: concatenated, the pieces equal the result of ``read``.

    Args:
        path: a sound file.
        rate: sampling rate of the result, in Hz.
        seconds: approximate length of a piece; the last one may be shorter.
        start: seconds to skip at the beginning of the file.
        stop: second of the file to stop at; None reads to the end.
        limit: clip values to [-1, 1], and raise for values beyond 8; False returns them unchanged.

    Raises:
        DataError: as ``read``; an unreadable part is found only when it is reached.
    """
    import torch

    from reprkit.data.resampling import resample_pieces

    if rate < 1 or not seconds > 0 or start < 0 or (stop is not None and stop <= start):
        raise DataError(
            f"rate={rate}, seconds={seconds}, start={start}, stop={stop}: rate from 1, seconds above 0, 0 <= start < stop"
        )
    opened = open_file(path)
    with opened:
        native = opened.samplerate
        shared = math.gcd(native, rate)
        up, down = rate // shared, native // shared
        first = round(start * native)
        left = math.inf if stop is None else round(stop * native) - first
        size = down * max(1, round(seconds * native / down))
        try:
            count = 0
            for piece in resample_pieces(_read_mono(opened, path, first, size, left, limit), up, down):
                count += len(piece)
                samples = torch.from_numpy(piece)
                yield samples.clamp_(-1, 1) if limit else samples
        except (OSError, RuntimeError) as error:  # soundfile's errors are RuntimeErrors
            raise DataError(f"{_name(path)} is damaged: {_reason(error)}") from error
    if not count:
        raise DataError(f"{_name(path)} holds no sound" + (f" from second {start:g} on" if start else ""))


@dataclass(frozen=True)
class Checked:
    """A sound file that was decoded to its end.

    Attributes:
        rate: samples a second.
        frames: number of samples of a channel that were decoded.
        channel: the channel that is read, where their mean would cancel; None for the mean.
    """

    rate: int
    frames: int
    channel: int | None


def check_file(file: File) -> Checked:
    """Decode a sound file to its end, in blocks.

    Raises:
        DataError: the file is truncated, holds no sound, or values that are not finite.
        PartImportError: soundfile is not installed.
        Exception: any exception of soundfile for a file that it cannot decode.
    """
    with OpenSound(file, "it") as opened:
        frames = 0
        while len(block := opened.raw.read(_BLOCK, dtype="float32")):
            if not np.isfinite(block).all():
                raise DataError("it holds values that are not finite")
            frames += len(block)
        if not frames or frames < opened.frames:
            raise DataError(f"{frames} of its {opened.frames} frames can be read")
        return Checked(opened.samplerate, frames, opened.channel)


class OpenSound:
    """An open sound file, read as one channel.

    Attributes:
        raw: the ``soundfile.SoundFile``.
        samplerate: samples a second.
        frames: number of samples of a channel.
    """

    def __init__(self, file: File, name: str) -> None:
        soundfile = _soundfile()
        source: Any = with_true_length(Path(file) if isinstance(file, str | os.PathLike) else file)
        self._view = source if isinstance(source, View) else None
        self._file = file
        try:
            self.raw = soundfile.SoundFile(source)
        except BaseException:
            self._close_view()
            raise
        self.samplerate, self.frames = int(self.raw.samplerate), int(self.raw.frames)
        try:
            _check_rate(self.raw, name)
        except DataError:
            self.close()
            raise

    @functools.cached_property
    def channel(self) -> int | None:
        """The channel that is read, where the mean of all would cancel; None for the mean."""
        if self.raw.channels == 1:
            return None
        if not isinstance(self._file, str | os.PathLike):
            return _choose_channel(self.raw)
        status = os.stat(self._file)
        key = (os.path.abspath(self._file), status.st_size, status.st_mtime_ns)
        if key not in _channels:
            if len(_channels) >= _MAX_CHANNELS:
                _channels.clear()
            _channels[key] = _choose_channel(self.raw)
        return _channels[key]

    def read(self, start: int, count: int) -> np.ndarray:
        """Read up to ``count`` frames from frame ``start`` on, as one channel: (t,), float32."""
        channel = self.channel
        # An MP3 frame uses bits left over by earlier ones, and every read ends with a seek, which discards them: begin earlier,
        # and read everything at once.
        begin = max(0, start - _MP3_LEAD) if self.raw.format == "MP3" else start
        if self.raw.tell() != begin:
            self.raw.seek(begin)
        wave = self.raw.read(start - begin + count, dtype="float32", always_2d=True)[start - begin :]
        if channel is None and wave.shape[1] > 1:
            return np.ascontiguousarray(wave.mean(axis=1))
        return np.ascontiguousarray(wave[:, channel or 0])

    def close(self) -> None:
        """Close the file, if it was opened here."""
        self.raw.close()
        self._close_view()

    def __enter__(self) -> OpenSound:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _close_view(self) -> None:
        if self._view is not None:
            self._view.close()


_channels: dict[tuple[str, int, int], int | None] = {}  # (path, size, time) -> the channel that is read
_MAX_CHANNELS = 1 << 16


def _choose_channel(opened: Any) -> int | None:
    """Compare the channels at some places of a file: the loudest one if their mean nearly vanishes, else None."""
    size, frames = max(1, opened.samplerate // 4), int(opened.frames)
    mean, power = 0.0, np.zeros(opened.channels)
    for place in sorted({max(0, (frames - size) * probe // (_PROBES - 1)) for probe in range(_PROBES)}):
        opened.seek(place)
        piece = opened.read(size, dtype="float64", always_2d=True)
        mean += float(np.square(piece.mean(axis=1)).sum())
        power += np.square(piece).sum(axis=0)
    opened.seek(0)
    return int(power.argmax()) if mean < _CANCELS * float(power.mean()) else None


def duration(path: File) -> float:
    """Return the duration of a sound file in seconds, without decoding it.

    Raises:
        DataError: no such file, or a file without sound.
    """
    with open_file(path) as opened:
        return opened.frames / opened.samplerate


def write(path: str | os.PathLike[str], wave: Float[Tensor, " samples"], rate: int = RATE) -> None:
    """Write a waveform (samples,) as WAV or FLAC (16 bits), Ogg Vorbis or Opus, by the file's suffix; create its folder.

    Values are clipped to [-1, 1], with a warning if one lies outside.

    Raises:
        DataError: another suffix, a waveform that is not 1-D or not finite, or no space left.
    """
    with open_writer(path, rate) as append:
        append(wave)


@contextlib.contextmanager
def open_writer(path: str | os.PathLike[str], rate: int = RATE) -> Iterator[Callable[[Tensor], int]]:
    """Write in pieces: the context yields a function that appends a waveform (samples,) and returns its length.

    The file appears under its name at the end of the block, and not at all if the block raises.

    Raises:
        DataError: as ``write``, or nothing was written.
    """
    soundfile = _soundfile()
    target = Path(path).expanduser()
    if target.suffix.lower() not in _WRITE_FORMATS:
        raise DataError(
            f"{target.name!r}: sound is written to {', '.join(_WRITE_FORMATS)}.{nearest(target.suffix, _WRITE_FORMATS)}"
        )
    kind, subtype = _WRITE_FORMATS[target.suffix.lower()]
    temporary = target.with_name(f".{target.name}-{os.getpid()}")
    warned = False

    def append(wave: Tensor) -> int:
        nonlocal warned
        if wave.ndim != 1 or not len(wave) or not bool(wave.isfinite().all()):
            raise DataError(
                f"a waveform is a 1-D tensor of finite numbers, at least one, not shape {tuple(wave.shape)}"
            )
        peak = float(wave.abs().max())
        if peak > _FULL_SCALE and not warned:
            warned = True
            warnings.warn(
                f"{target.name}: values up to {peak:.3g} are clipped to [-1, 1]; divide the waveform by its largest value instead",
                stacklevel=3,
            )
        _append(opened, wave.detach().cpu().float().clamp(-1, 1).numpy())
        return len(wave)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(temporary, "w", rate, 1, subtype=subtype, format=kind) as opened:
            yield append
            written = opened.frames
        if not written:
            raise DataError(f"nothing was written to {str(target)!r}")
        temporary.replace(target)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"cannot write {str(target)!r}: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def encode(wave: np.ndarray, rate: int = RATE, *, suffix: str = ".wav") -> bytes:
    """Return the bytes of the file that ``write`` would write, for a waveform (t,) of floats in [-1, 1] or 16-bit integers.

    Raises:
        PartImportError: soundfile is not installed.
    """
    kind, subtype = _WRITE_FORMATS[suffix]
    file = io.BytesIO()
    with _soundfile().SoundFile(file, "w", rate, 1, subtype=subtype, format=kind) as opened:
        _append(opened, wave)
    return file.getvalue()


def _append(opened: Any, wave: np.ndarray) -> None:
    for first in range(0, len(wave), _SLICE):
        opened.write(wave[first : first + _SLICE])


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: soundfile without its library
        raise PartImportError(
            f"reading and writing sound files needs the package soundfile, which cannot be imported: {error}\n"
            "  pip install 'reprkit[audio]'"
        ) from error
    return soundfile


def open_file(path: File) -> OpenSound:
    """Open a file, to read parts of it.

    Raises:
        DataError: no such file, or not a sound file.
        PartImportError: soundfile is not installed.
    """
    _soundfile()
    file: Any = Path(path).expanduser() if isinstance(path, str | os.PathLike) else path
    if isinstance(file, Path) and (file.is_dir() or not file.exists()):
        what = "a folder, not a sound file" if file.is_dir() else f"not there (looked in {Path.cwd()})"
        raise DataError(f"{str(path)!r} is {what}")
    if isinstance(file, Path):
        check_regular(file)
    try:
        opened = OpenSound(file, _name(path))
    except (OSError, RuntimeError, TypeError) as error:  # TypeError: a raw file, whose rate is unknown
        content = _describe_content(file) if isinstance(file, Path) else ""
        raise DataError(f"{_name(path)} is not a sound file: {content or _reason(error)}") from error
    if not opened.frames:
        opened.close()
        raise DataError(f"{_name(path)} holds no sound")
    return opened


def _check_rate(opened: Any, name: str) -> None:
    """Check the sampling rate, by which the header of a small file can claim hours of sound."""
    if not _MIN_RATE <= opened.samplerate <= _MAX_RATE:
        raise DataError(
            f"{name} claims {opened.samplerate:,} samples a second; sound has {_MIN_RATE:,} to {_MAX_RATE:,}"
        )


def _describe_content(file: Path) -> str:
    """Return what a file that is not sound seems to hold; empty if unknown."""
    try:
        with file.open("rb") as opened:
            head = opened.read(512)
    except OSError as error:
        return str(error)
    if not head:
        return "it is empty"
    try:
        text = head.decode("utf-8", errors="ignore")
    except ValueError:
        return ""
    readable = sum(letter.isprintable() or letter.isspace() for letter in text)
    return "it holds text" if readable == len(text) and len(text.encode()) > len(head) - 4 else ""


def _read_mono(
    opened: OpenSound, path: File, first: int, size: int, left: float, limit: bool
) -> Iterator[np.ndarray]:
    """Yield the sound as one channel from frame ``first`` on, ``size`` native samples at a time."""
    first = min(first, opened.frames)
    while left > 0 and len(wave := opened.read(first, int(min(size, left)))):
        first, left = first + len(wave), left - len(wave)
        peak = float(np.abs(wave).max()) if limit else 0.0
        if limit and not peak < _MAX_PEAK:
            raise DataError(
                f"{_name(path)} holds values that are not finite"
                if not math.isfinite(peak)
                else f"{_name(path)} holds values up to {peak:g}; values in a sound file of floats must lie in [-1, 1]\n"
                "  divide them by the largest possible value (32768 for 16 bits)"
            )
        yield wave


def _name(path: File) -> str:
    return repr(os.fspath(path)) if isinstance(path, str | os.PathLike) else "the sound"


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
