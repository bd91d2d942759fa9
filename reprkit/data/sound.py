"""Sound files in and out: one channel, one rate, float32; long files a block at a time.  The only module that imports soundfile."""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from reprkit.errors import DataError, PartImportError, nearest

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

File = str | os.PathLike[str] | BinaryIO

RATE = 16000  # Hz, where none is stated
SUFFIXES = frozenset((".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav"))
_LOUDEST = 8.0  # float files slightly above 1 are cut off; far above it they hold another scale
_LEAD = 16 * 1152  # 16 frames of MP3
_BLOCK = 1 << 20  # frames read at once when a file is checked
_SLICE = 1 << 14  # samples written at once: the Vorbis encoder puts what it is given on the stack
_WRITTEN = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
}


def read(
    path: File, rate: int = RATE, *, start: float = 0.0, stop: float | None = None, limit: bool = True
) -> Float[Tensor, " samples"]:
    """A sound file, or its seconds from ``start`` to ``stop``: (samples,), float32.

    The channels' mean; any rate is resampled (polyphase filter), any depth of bits is converted.

    Args:
        path: WAV, FLAC, Ogg Vorbis or Opus, MP3, AIFF; or an open binary file.
        rate: samples a second, in Hz.
        start: seconds of the file to leave out at its beginning.
        stop: second of the file to end at; None takes all.
        limit: cut values off beyond [-1, 1], and refuse those beyond 8; False gives them as they are.

    Raises:
        DataError: no such file, one that holds no sound, or values that are no sound.
        PartImportError: soundfile is not installed.
    """
    import torch

    return torch.cat(list(blocks(path, rate, start=start, stop=stop, limit=limit)))


def blocks(
    path: File,
    rate: int = RATE,
    *,
    seconds: float = 30.0,
    start: float = 0.0,
    stop: float | None = None,
    limit: bool = True,
) -> Iterator[Float[Tensor, " samples"]]:
    """``read`` a piece at a time, for files longer than memory: joined, the pieces are what ``read`` gives.

    Args:
        path: a sound file.
        rate: samples a second of what is given, in Hz.
        seconds: length of a piece, about; the last one may be shorter.
        start: seconds of the file to leave out at its beginning.
        stop: second of the file to end at; None takes all.
        limit: cut values off beyond [-1, 1], and refuse those beyond 8; False gives them as they are.

    Raises:
        DataError: as ``read``; a later part that cannot be read is found when it is reached.
    """
    import torch

    from reprkit.data.resampling import resample_pieces

    if rate < 1 or not seconds > 0 or start < 0 or (stop is not None and stop <= start):
        raise DataError(f"rate={rate}, seconds={seconds}, start={start}, stop={stop}: no sound lies there")
    opened = open_file(path)
    with opened:
        native = opened.samplerate
        shared = math.gcd(native, rate)
        up, down = rate // shared, native // shared
        first = round(start * native)
        left = math.inf if stop is None else round(stop * native) - first
        size = down * max(1, round(seconds * native / down))
        try:
            given = 0
            for piece in resample_pieces(_mixed(opened, path, first, size, left, limit), up, down):
                given += len(piece)
                made = torch.from_numpy(piece)
                yield made.clamp_(-1, 1) if limit else made
        except (OSError, RuntimeError) as error:  # soundfile's errors are RuntimeErrors
            raise DataError(f"{_name(path)} is damaged: {_reason(error)}") from error
    if not given:
        raise DataError(f"{_name(path)} holds no sound" + (f" from second {start:g} on" if start else ""))


def check_file(file: File) -> tuple[int, int]:
    """(rate, frames) of a sound file that can be decoded to its end, a block at a time.

    Raises:
        DataError: it is cut off, holds no sound, or values that are not finite.
        PartImportError: soundfile is not installed.
        Exception: what soundfile raises where it cannot be decoded.
    """
    with _soundfile().SoundFile(file) as opened:
        frames = 0
        while len(block := opened.read(_BLOCK, dtype="float32")):
            if not np.isfinite(block).all():
                raise DataError("it holds values that are not finite")
            frames += len(block)
        if not frames or (opened.frames > 0 and frames < opened.frames):
            raise DataError(f"{frames} of its {opened.frames} frames can be read")
        return int(opened.samplerate), frames


def read_frames(opened: Any, start: int, count: int) -> np.ndarray:
    """The mean of the channels of up to ``count`` frames of an open file, from frame ``start`` on: (t,), float32."""
    # A frame of MP3 is coded with what earlier ones left over, and every read ends with a seek, which forgets that: begin
    # before what is wanted, and take both in one read.
    begin = max(0, start - _LEAD) if opened.format == "MP3" else start
    if opened.tell() != begin:
        opened.seek(begin)
    wave = opened.read(start - begin + count, dtype="float32", always_2d=True)
    return np.ascontiguousarray(wave[start - begin :].mean(axis=1))


def duration(path: File) -> float:
    """Seconds of a sound file, from its head alone.

    Raises:
        DataError: no such file, or one that holds no sound.
    """
    with open_file(path) as opened:
        return float(opened.frames / opened.samplerate)


def write(path: str | os.PathLike[str], wave: Float[Tensor, " samples"], rate: int = RATE) -> None:
    """Write a wave (samples,) as WAV or FLAC (16 bits), Ogg Vorbis or Opus, by the file's suffix; its folder is made.

    Values beyond [-1, 1] are cut off.

    Raises:
        DataError: a suffix that is none of these, a wave that is not one row of finite numbers, or no room.
    """
    with open_writer(path, rate) as put:
        put(wave)


@contextlib.contextmanager
def open_writer(path: str | os.PathLike[str], rate: int = RATE) -> Iterator[Callable[[Tensor], int]]:
    """``write`` a piece at a time: the block gets a function that writes a wave (samples,) and says how long it was.

    The file appears under its name at the end of the block, and not at all where the block fails.

    Raises:
        DataError: as ``write``, or nothing was written.
    """
    soundfile = _soundfile()
    target = Path(path).expanduser()
    if target.suffix.lower() not in _WRITTEN:
        raise DataError(
            f"{target.name!r}: sound is written to {', '.join(_WRITTEN)}.{nearest(target.suffix, _WRITTEN)}"
        )
    kind, subtype = _WRITTEN[target.suffix.lower()]
    fresh = target.with_name(f".{target.name}-{os.getpid()}")

    def put(wave: Tensor) -> int:
        if wave.ndim != 1 or not len(wave) or not bool(wave.isfinite().all()):
            raise DataError(
                f"a wave is one row of finite numbers, at least one, not shape {tuple(wave.shape)}"
            )
        _put(opened, wave.detach().cpu().float().clamp(-1, 1).numpy())
        return len(wave)

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(fresh, "w", rate, 1, subtype=subtype, format=kind) as opened:
            yield put
            written = opened.frames
        if not written:
            raise DataError(f"nothing was written to {str(target)!r}")
        fresh.replace(target)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(f"cannot write {str(target)!r}: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)


def encode(wave: np.ndarray, rate: int = RATE, *, suffix: str = ".wav") -> bytes:
    """The content of the file that ``write`` would write, of a wave (t,): floats in [-1, 1], or whole numbers of 16 bits.

    Raises:
        PartImportError: soundfile is not installed.
    """
    kind, subtype = _WRITTEN[suffix]
    file = io.BytesIO()
    with _soundfile().SoundFile(file, "w", rate, 1, subtype=subtype, format=kind) as opened:
        _put(opened, wave)
    return file.getvalue()


def _put(opened: Any, wave: np.ndarray) -> None:
    for first in range(0, len(wave), _SLICE):
        opened.write(wave[first : first + _SLICE])


def _soundfile() -> Any:
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: soundfile without its library
        raise PartImportError(
            f"sound files are read and written by the package soundfile, which cannot be imported: {error}\n"
            "  pip install 'reprkit[audio]'"
        ) from error
    return soundfile


def open_file(path: File) -> Any:
    """An open ``soundfile.SoundFile``, for ``read_frames``.

    Raises:
        DataError: no such file, or no sound file.
        PartImportError: soundfile is not installed.
    """
    soundfile = _soundfile()
    file: Any = Path(path).expanduser() if isinstance(path, str | os.PathLike) else path
    if isinstance(file, Path) and (file.is_dir() or not file.exists()):
        what = "a folder, not a sound file" if file.is_dir() else f"not there (looked in {Path.cwd()})"
        raise DataError(f"{str(path)!r} is {what}")
    try:
        opened = soundfile.SoundFile(file)
    except (OSError, RuntimeError, TypeError) as error:  # TypeError: a raw file, of no known rate
        guess = _guess(file) if isinstance(file, Path) else ""
        raise DataError(f"{_name(path)} is no sound file: {guess or _reason(error)}") from error
    if not opened.frames:
        opened.close()
        raise DataError(f"{_name(path)} holds no sound")
    return opened


def _guess(file: Path) -> str:
    """What a file that is no sound seems to be instead; empty where that cannot be said."""
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
    plain = sum(letter.isprintable() or letter.isspace() for letter in text)
    return "it holds text" if plain == len(text) and len(text.encode()) > len(head) - 4 else ""


def _mixed(opened: Any, path: File, first: int, size: int, left: float, limit: bool) -> Iterator[np.ndarray]:
    """The mean of the channels from frame ``first`` on, ``size`` native samples at a time."""
    first = min(first, opened.frames)
    while left > 0 and len(wave := read_frames(opened, first, int(min(size, left)))):
        first, left = first + len(wave), left - len(wave)
        peak = float(np.abs(wave).max())
        if limit and not peak < _LOUDEST:
            raise DataError(
                f"{_name(path)} holds values that are not finite"
                if not math.isfinite(peak)
                else f"{_name(path)} holds values up to {peak:g}; numbers in a sound file of floats lie in [-1, 1]\n"
                "  divide them by the largest value that can occur (32768 for 16 bits)"
            )
        yield wave


def _name(path: File) -> str:
    return repr(os.fspath(path)) if isinstance(path, str | os.PathLike) else "the sound"


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
