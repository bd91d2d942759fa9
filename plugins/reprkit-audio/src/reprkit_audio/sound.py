"""Sound files in and out: one channel, one rate, float32 in [-1, 1]; silence cut off; long files a block at a time."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError, nearest
from reprkit_audio.resampling import resampled

RATE = 16000  # Hz, everywhere inside
SUFFIXES = frozenset((".aif", ".aiff", ".flac", ".mp3", ".ogg", ".opus", ".wav"))
SILENT = 1e-4  # the largest value of a sound that counts as none, -80 dB
_LOUDEST = 8.0  # float files slightly above 1 are cut off; far above it they hold another scale
_WRITTEN = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
}


def read(
    path: str | os.PathLike[str], rate: int = RATE, *, start: float = 0.0, stop: float | None = None
) -> Float[Tensor, " samples"]:
    """A sound file, or its seconds from ``start`` to ``stop``: (samples,), float32 in [-1, 1].

    The channels' mean; any rate is resampled (polyphase filter), any depth of bits is converted.

    Args:
        path: WAV, FLAC, Ogg Vorbis or Opus, MP3, AIFF.
        rate: samples a second, in Hz.
        start: seconds of the file to leave out at its beginning.
        stop: second of the file to end at; None takes all.

    Raises:
        DataError: no such file, one that holds no sound, or values that are no sound.
    """
    return torch.cat(list(blocks(path, rate, start=start, stop=stop)))


def blocks(
    path: str | os.PathLike[str],
    rate: int = RATE,
    *,
    seconds: float = 30.0,
    start: float = 0.0,
    stop: float | None = None,
) -> Iterator[Float[Tensor, " samples"]]:
    """``read`` a piece at a time, for files longer than memory: joined, the pieces are what ``read`` gives.

    Args:
        path: a sound file.
        rate: samples a second of what is given, in Hz.
        seconds: length of a piece, about; the last one may be shorter.
        start: seconds of the file to leave out at its beginning.
        stop: second of the file to end at; None takes all.

    Raises:
        DataError: as ``read``; a later part that cannot be read is found when it is reached.
    """
    if rate < 1 or not seconds > 0 or start < 0 or (stop is not None and stop <= start):
        raise DataError(f"rate={rate}, seconds={seconds}, start={start}, stop={stop}: no sound lies there")
    opened = _opened(path)
    with opened:
        native = opened.samplerate
        shared = math.gcd(native, rate)
        up, down = rate // shared, native // shared
        first = round(start * native)
        left = math.inf if stop is None else round(stop * native) - first
        try:
            if first:
                opened.seek(min(first, opened.frames))
            given = 0
            for piece in resampled(
                _mixed(opened, path, down * max(1, round(seconds * native / down)), left), up, down
            ):
                given += len(piece)
                yield torch.from_numpy(piece).clamp_(-1, 1)
        except (OSError, RuntimeError) as error:  # soundfile's errors are RuntimeErrors
            raise DataError(f"{_name(path)} is damaged: {_reason(error)}") from error
    if not given:
        raise DataError(f"{_name(path)} holds no sound" + (f" from second {start:g} on" if start else ""))


def duration(path: str | os.PathLike[str]) -> float:
    """Seconds of a sound file, from its head alone.

    Raises:
        DataError: no such file, or one that holds no sound.
    """
    with _opened(path) as opened:
        return float(opened.frames / opened.samplerate)


def write(path: str | os.PathLike[str], wave: Float[Tensor, " samples"], rate: int = RATE) -> None:
    """Write a wave (samples,) as WAV or FLAC (16 bits), Ogg Vorbis or Opus, by the file's suffix; its folder is made.

    Values beyond [-1, 1] are cut off.

    Raises:
        DataError: a suffix that is none of these, a wave that is not one row of finite numbers, or no room.
    """
    with writing(path, rate) as put:
        put(wave)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str], rate: int = RATE) -> Iterator[Callable[[Tensor], int]]:
    """``write`` a piece at a time: the block gets a function that writes a wave (samples,) and says how long it was.

    The file appears under its name at the end of the block, and not at all where the block fails.

    Raises:
        DataError: as ``write``, or nothing was written.
    """
    import soundfile

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
        opened.write(wave.detach().cpu().float().clamp(-1, 1).numpy())
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


def trimmed(
    wave: Float[Tensor, " samples"], rate: int = RATE, *, floor: float = 40.0, margin: float = 0.05
) -> Float[Tensor, " fewer"]:
    """The wave (samples,) without the silence at its ends; pauses inside stay.

    Args:
        wave: one channel.
        rate: in Hz.
        floor: a frame of 20 ms is silent where its energy is so many dB below the loudest one's.
        margin: seconds that are left before the first and after the last frame that is not silent.

    Raises:
        DataError: nothing but silence (no value above -80 dB).
    """
    if not len(wave) or float(wave.abs().max()) < SILENT:
        raise DataError("it holds nothing but silence")
    hop = max(1, rate // 100)
    squares = torch.nn.functional.pad(wave.double().square(), (0, -len(wave) % hop)).reshape(-1, hop).sum(1)
    energy = squares + torch.nn.functional.pad(squares[1:], (0, 1))  # frame i: hops i and i + 1
    loud = (energy > energy.max() * 10 ** (-floor / 10)).nonzero().flatten()
    extra = round(margin * rate)
    first = max(0, int(loud[0]) * hop - extra)
    last = min(len(wave), (int(loud[-1]) + 2) * hop + extra)
    return wave[first:last]


def clipped(wave: Float[Tensor, " samples"]) -> float:
    """The share of samples in runs of three and more at the wave's largest value: 0 in natural recordings, about."""
    size = wave.abs()
    peak = float(size.max()) if len(wave) else 0.0
    if peak < SILENT:
        return 0.0
    at = torch.nn.functional.pad((size >= 0.999 * peak).float(), (2, 2))
    three = at.unfold(0, 3, 1).sum(1) == 3  # runs that begin here
    inside = torch.nn.functional.max_pool1d(three.float()[None], 3, 1)[0]
    return float(inside.mean())


def _opened(path: str | os.PathLike[str]) -> Any:
    """An open file.

    Raises:
        DataError: no such file, or no sound file.
    """
    import soundfile

    file = Path(path).expanduser()
    if file.is_dir() or not file.exists():
        what = "a folder, not a sound file" if file.is_dir() else f"not there (looked in {Path.cwd()})"
        raise DataError(f"{str(path)!r} is {what}")
    try:
        opened = soundfile.SoundFile(file)
    except (OSError, RuntimeError, TypeError) as error:  # TypeError: a raw file, of no known rate
        raise DataError(f"{_name(path)} is no sound file: {_guess(file) or _reason(error)}") from error
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


def _mixed(opened: Any, path: Any, size: int, left: float) -> Iterator[np.ndarray]:
    """The mean of the channels, ``size`` native samples at a time."""
    while left > 0 and len(block := opened.read(int(min(size, left)), dtype="float32", always_2d=True)):
        left -= len(block)
        peak = float(np.abs(block).max())
        if not peak < _LOUDEST:
            raise DataError(
                f"{_name(path)} holds values that are not finite"
                if not math.isfinite(peak)
                else f"{_name(path)} holds values up to {peak:g}; numbers in a sound file of floats lie in [-1, 1]\n"
                "  divide them by the largest value that can occur (32768 for 16 bits)"
            )
        yield np.ascontiguousarray(block.mean(axis=1))


def _name(path: str | os.PathLike[str]) -> str:
    return repr(os.fspath(path))


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
