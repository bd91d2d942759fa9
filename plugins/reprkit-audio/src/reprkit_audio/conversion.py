"""Voice conversion: what one recording says, in the voice of another."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reprkit import Model
from reprkit.data import sound
from reprkit.data.resampling import resample
from reprkit.errors import DataError
from reprkit.utils.atomic_files import require_absent
from reprkit_audio.converter import TARGET_SECONDS, Converter, Voice
from reprkit_audio.data.features import MIN_SECONDS
from reprkit_audio.frontends.base import Sound, check_waveform
from reprkit_audio.learned_voices import OutsideTrainingWarning
from reprkit_audio.streaming import Wave
from reprkit_audio.vocoders import Vocoder
from reprkit_audio.waveforms import LevelMeter, is_silent, matching_gain, trim_silence

_MAX_PEAK = 8.0  # as in reprkit.data.sound
_SAMPLES = 1 << 20  # read at a time from the temporary file

# A file, a waveform at the model's rate, or a waveform and its rate.
Recording = str | os.PathLike[str] | Tensor | tuple[Tensor, int]


def convert(
    model: Model | str | os.PathLike[str],
    source: Recording,
    target: Recording | Sequence[Recording],
    *,
    vocoder: str | Vocoder | None = None,
    spread: bool = True,
    neighbors: int = 0,
    blend: float = 1.0,
    strength: float = 1.0,
    language: str | None = None,
) -> tuple[Wave, int]:
    """Convert ``source`` to the voice of ``target``: a waveform (samples,), as long as the source, and its rate in Hz.

    The result has the level of the source's speech, or less where its peak would exceed full scale; nothing is clipped.
    Decodes ``codes(source) | {"speaker": codes(target)["speaker"]}``; where the front end extracts the pitch (``world``), the
    pitch gets the mean and standard deviation of the target's.

    Args:
        model: a model with a factor ``speaker``, or the folder of one.
        source: a file, or a waveform: at the front end's rate, or as a pair with its own.
        target: the same, or several of them, whose voices are averaged.  Only the first minute of each is used.
        vocoder: a reference; if None, the one for the model's frames that needs no training.
        spread: whether the converted envelope gets the target's deviation (``reprkit_audio.global_variance``).
        neighbors: see ``reprkit_audio.converter.Converter``: the envelope is made of the target's own frames; 0 for none.
        blend: share of the neighbors' envelope.
        strength: see ``reprkit_audio.converter.Converter``: above 1 exaggerates the target's voice.
        language: of the source, such as "it"; compared with the model's languages.

    Warns:
        OutsideTrainingWarning: a recording differs from the training speech, or the model's own figures are poor, where its
            folder has ``voices.json`` (``reprkit_audio.learned_voices``).

    Raises:
        BuildError: the model cannot convert.
        DataError: no sound, silence, less than 0.1 s, or a target without a voiced frame where the pitch is to be converted.
        PartArgumentError: a vocoder that does not fit the model's frames.
    """
    converter = Converter(
        model, vocoder=vocoder, spread=spread, neighbors=neighbors, blend=blend, strength=strength
    )
    targets = _read_targets(converter, target)
    wave = _read_recording(source, converter.rate, "the source")
    _warn_outside_training(converter, wave, targets, language)
    voice = converter.voice([analyzed for _, analyzed in targets])
    source_level, level = LevelMeter(converter.rate), LevelMeter(converter.rate)
    source_level.add(wave)
    made = torch.cat([level.add(block) for block in converter.stream([wave], voice, converter.pitch(wave))])
    return made * matching_gain(level, source_level), converter.rate


def convert_file(
    model: Model | str | os.PathLike[str],
    source: str | os.PathLike[str],
    target: Recording | Sequence[Recording],
    out: str | os.PathLike[str],
    *,
    vocoder: str | Vocoder | None = None,
    spread: bool = True,
    neighbors: int = 0,
    blend: float = 1.0,
    strength: float = 1.0,
    language: str | None = None,
    overwrite: bool = False,
) -> float:
    """Convert a file to a file, block by block, so that neither has to fit into memory; returns the seconds written.

    Blocks of 30 s overlap by 1 s, and are crossfaded where that second is quietest.  All have one gain, as in ``convert``; they
    are kept in a temporary file until it is known.  The file appears under its name only when it is complete.  The arguments and
    warnings are those of ``convert``; a long source is compared by its first minute.

    Args:
        model: see ``convert``, as all that are not named here.
        source: see ``convert``.
        target: see ``convert``.
        out: the file to write.
        vocoder: see ``convert``.
        spread: see ``convert``.
        neighbors: see ``convert``.
        blend: see ``convert``.
        strength: see ``convert``.
        language: see ``convert``.
        overwrite: whether to replace ``out`` if it exists.

    Raises:
        as ``convert``; and DataError: ``out`` exists and is not to be replaced, an ending that is no kind of sound file, or a
            file that cannot be written.
    """
    require_absent(Path(out).expanduser(), overwrite, DataError)
    converter = Converter(
        model, vocoder=vocoder, spread=spread, neighbors=neighbors, blend=blend, strength=strength
    )
    targets = _read_targets(converter, target)
    if sound.duration(source) <= TARGET_SECONDS:
        wave = _read_recording(source, converter.rate, "the source")
        pieces: Iterable[Wave] = [wave]
    else:
        peak = max(float(part.abs().max()) for part in _checked_blocks(source, converter.rate))
        scale = 1 / max(1.0, peak)
        parts = (part * scale for part in _checked_blocks(source, converter.rate, TARGET_SECONDS))
        audible = next((part for part in parts if not is_silent(part)), None)
        if audible is None:
            raise DataError(f"the source {Path(source).name!r} is silent")
        wave, pieces = audible, (part * scale for part in _checked_blocks(source, converter.rate))
    _warn_outside_training(converter, wave, targets, language)
    voice = converter.voice([analyzed for _, analyzed in targets])
    source_level, level = LevelMeter(converter.rate), LevelMeter(converter.rate)
    metered = (source_level.add(piece) for piece in pieces)
    with (
        sound.open_writer(out, converter.rate) as put,
        tempfile.TemporaryFile(dir=Path(out).expanduser().parent) as kept,
    ):
        for block in converter.stream(metered, voice, converter.pitch(wave)):
            level.add(block).numpy().astype(np.float32).tofile(kept)
        kept.seek(0)
        gain = matching_gain(level, source_level)
        total = 0
        while len(samples := np.fromfile(kept, np.float32, _SAMPLES)):
            total += put(torch.from_numpy(samples) * gain)
    return total / converter.rate


def _checked_blocks(source: str | os.PathLike[str], rate: int, seconds: float = 30.0) -> Iterator[Wave]:
    """Read a file in pieces, unclipped.

    Raises:
        DataError: its values are far above full scale, so they have another unit.
    """
    for part in sound.blocks(source, rate, seconds=seconds, limit=False):
        _check_scale(part, f"the source {Path(source).name!r}")
        yield part


def _check_scale(wave: Wave, name: str) -> None:
    peak = float(wave.abs().max())
    if not peak < _MAX_PEAK:
        raise DataError(
            f"{name} holds values up to {peak:g}, and sound lies in [-1, 1]: divide it by the largest possible value "
            "(32768 for 16 bits)"
        )


def extract_voice(converter: Converter, target: Recording | Sequence[Recording]) -> Voice:
    """Extract the voice of one or more recordings.

    Raises:
        DataError: no recording, silence, less than 0.1 s, or no voiced frame where the front end extracts the pitch.
    """
    return converter.voice([analyzed for _, analyzed in _read_targets(converter, target)])


def _read_targets(converter: Converter, target: Recording | Sequence[Recording]) -> list[tuple[Wave, Sound]]:
    """Waveforms of the target, with the front end's analysis of each."""
    waves = [_read_recording(each, converter.rate, "the target", target=True) for each in _as_list(target)]
    if not waves:
        raise DataError("no target recording was given: voice conversion needs at least one")
    return [(wave, converter.front.analyze(wave)) for wave in waves]


def _warn_outside_training(
    converter: Converter, source: Wave, targets: Sequence[tuple[Wave, Sound]], language: str | None
) -> None:
    """Warn of recordings that are unlike the training speech, and of poor figures; the warning names the caller's line."""
    learned = converter.learned
    if learned is None:
        return
    trimmed = trim_silence(source, converter.rate)[: round(TARGET_SECONDS * converter.rate)]
    messages = [
        *learned.own_warnings(language),
        *learned.warnings(trimmed, converter, "the source", language),
    ]
    for wave, analyzed in targets:
        messages += learned.warnings(wave, converter, "the target", frames=analyzed.frames)
    for message in dict.fromkeys(messages):
        warnings.warn(message, OutsideTrainingWarning, stacklevel=3)


def _as_list(target: Recording | Sequence[Recording]) -> list[Recording]:
    """The targets as a list; a pair of waveform and rate is one target."""
    pair = isinstance(target, tuple) and len(target) == 2 and isinstance(target[1], int)
    if isinstance(target, str | os.PathLike | Tensor) or pair:
        return [target]  # type: ignore[list-item]
    return list(target)  # type: ignore[arg-type]


def _read_recording(recording: Recording, rate: int, role: str, *, target: bool = False) -> Wave:
    """Read a recording as a waveform; of a target, the first minute without the silence at its ends.

    Raises:
        DataError: no sound, silence, or less than 0.1 s.
    """
    name = role
    if isinstance(recording, str | os.PathLike):
        name = f"{role} {Path(recording).name!r}"
        wave = sound.read(recording, rate, stop=TARGET_SECONDS if target else None, limit=False)
        _check_scale(wave, name)
        wave = wave / max(
            1.0, float(wave.abs().max())
        )  # a file of floats may exceed full scale; it is not clipped
    else:
        wave, own_rate = recording if isinstance(recording, tuple) else (recording, rate)
        wave = resample(_check_recording(wave, role), own_rate, rate)
    try:
        trimmed = trim_silence(wave, rate)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if len(trimmed) < MIN_SECONDS * rate:
        raise DataError(f"{name} has {len(trimmed) / rate:.2f} s of sound, under {MIN_SECONDS:g} s")
    return trimmed[: round(TARGET_SECONDS * rate)] if target else wave


def _check_recording(wave: Tensor, role: str) -> Wave:
    try:
        return check_waveform(wave).detach().cpu()
    except DataError as error:
        raise DataError(f"{role}: {error}") from error
