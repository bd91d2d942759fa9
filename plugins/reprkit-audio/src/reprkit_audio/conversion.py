"""Voice conversion: what one recording says, in the voice of another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from reprkit import Model
from reprkit.data.resampling import resample
from reprkit.errors import DataError
from reprkit_audio import sound
from reprkit_audio.converter import LISTENED, Converter, Voice
from reprkit_audio.frontends.base import checked
from reprkit_audio.streaming import Wave
from reprkit_audio.vocoders import Vocoder

SHORTEST = 0.1  # seconds

# A file, a waveform at the model's rate, or a waveform and its rate.
Recording = str | os.PathLike[str] | Tensor | tuple[Tensor, int]


def convert(
    model: Model | str | os.PathLike[str],
    source: Recording,
    target: Recording | Sequence[Recording],
    *,
    vocoder: str | Vocoder | None = None,
    spread: bool = True,
) -> tuple[Wave, int]:
    """What ``source`` says in the voice of ``target``: a waveform (samples,), as long as the source, and its rate in Hz.

    ``codes(source) | {"speaker": codes(target)["speaker"]}``, decoded; where the front end tells the pitch (``world``), it
    gets the target's mean and spread.

    Args:
        model: a model with a factor ``speaker``, or the folder of one.
        source: a file, or a waveform: at the front end's rate, or as a pair with its own.
        target: the same, or several of them, whose voices are averaged.  The first minute of each is listened to.
        vocoder: a reference; None takes the one for the model's frames that needs no training.
        spread: whether the converted envelope gets the target's deviation (``reprkit_audio.global_variance``).

    Raises:
        BuildError: the model cannot convert.
        DataError: no sound, silence, less than 0.1 s, or a target without a voiced frame where the pitch is to be moved.
        PartArgumentError: a vocoder that does not fit the model's frames.
    """
    made = Converter(model, vocoder=vocoder, spread=spread)
    voice = voice_of(made, target)
    wave = _heard(source, made.rate, "the source")
    return torch.cat(list(made.stream([wave], voice, made.pitch(wave)))), made.rate


def convert_file(
    model: Model | str | os.PathLike[str],
    source: str | os.PathLike[str],
    target: Recording | Sequence[Recording],
    out: str | os.PathLike[str],
    *,
    vocoder: str | Vocoder | None = None,
    spread: bool = True,
) -> float:
    """``convert`` from file to file, a block at a time, so that neither has to fit into memory; the seconds written.

    Blocks of 30 s overlap by one, and go over into each other where that second is quietest.  The file appears under its name
    when it is whole.

    Raises:
        as ``convert``; and DataError: an ending that is no kind of sound file, or a file that cannot be written.
    """
    made = Converter(model, vocoder=vocoder, spread=spread)
    voice = voice_of(made, target)
    if sound.duration(source) <= LISTENED:
        wave = _heard(source, made.rate, "the source")
        pieces: Iterable[Wave] = [wave]
    else:
        parts = sound.blocks(source, made.rate, seconds=LISTENED)
        spoken = (part for part in parts if float(part.abs().max()) >= sound.SILENT)
        wave = next(spoken, torch.zeros(1))
        pieces = sound.blocks(source, made.rate)
        if len(wave) == 1:
            raise DataError(f"the source {Path(source).name!r}: it holds nothing but silence")
    with sound.open_writer(out, made.rate) as put:
        total = sum(put(block) for block in made.stream(pieces, voice, made.pitch(wave)))
    return total / made.rate


def voice_of(converter: Converter, target: Recording | Sequence[Recording]) -> Voice:
    """The voice of one recording or several.

    Raises:
        DataError: none, silence, less than 0.1 s, or no voiced frame where the front end tells the pitch.
    """
    heard = [_heard(each, converter.rate, "the target", target=True) for each in _several(target)]
    if not heard:
        raise DataError("no target: whose voice shall it be?")
    return converter.voice([converter.front.analyse(wave) for wave in heard])


def _several(target: Recording | Sequence[Recording]) -> list[Recording]:
    """One or several targets as a list; a pair of waveform and rate is one."""
    pair = isinstance(target, tuple) and len(target) == 2 and isinstance(target[1], int)
    if isinstance(target, str | os.PathLike | Tensor) or pair:
        return [target]  # type: ignore[list-item]
    return list(target)  # type: ignore[arg-type]


def _heard(given: Recording, rate: int, what: str, *, target: bool = False) -> Wave:
    """A recording's waveform; of a target the first minute, without the silence at its ends.

    Raises:
        DataError: no sound, silence, or less than 0.1 s.
    """
    name = what
    if isinstance(given, str | os.PathLike):
        name = f"{what} {Path(given).name!r}"
        wave = sound.read(given, rate, stop=LISTENED if target else None)
    else:
        wave, own = given if isinstance(given, tuple) else (given, rate)
        wave = resample(_checked(wave, what), own, rate)
    try:
        cut = sound.trimmed(wave, rate)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if len(cut) < SHORTEST * rate:
        raise DataError(f"{name} is {len(cut) / rate:.2f} s of sound, under {SHORTEST:g} s")
    return cut[: round(LISTENED * rate)] if target else wave


def _checked(wave: Tensor, what: str) -> Wave:
    try:
        return checked(wave).detach().cpu()
    except DataError as error:
        raise DataError(f"{what}: {error}") from error
