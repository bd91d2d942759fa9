"""Statistics of a voice converter's training speech, stored with the model: recordings that differ from it give warnings."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import CheckpointError, DataError
from reprkit_audio.evaluators.conversion_pairs import check_utterances, utterances_by_speaker

if TYPE_CHECKING:
    from reprkit import Dataset
    from reprkit_audio.converter import Converter

FILE = "voices.json"  # in the model's folder
MIN_SECONDS = 1.0  # a shorter recording is too short to compare
_MOST = 400  # training utterances that are measured
_QUANTILE = 0.99  # of the training utterances lie within a limit before its margin
_LEVEL_MARGIN, _BAND_MARGIN = 6.0, 0.75  # dB; share of the smallest bandwidth
_FRAMES_MARGIN, _CODE_MARGIN = 1.25, 1.25  # factors of the limits
_BAND_FLOOR = 50.0  # dB below the strongest frequency at which the band ends
_LOST_WORDS = 0.3  # a larger rise of the word error rate counts as unintelligible
_UNSEEN = 0.4  # with at least this share of nearest conversions, unseen speakers count as supported
_NEAREST = 0.5  # share of nearest conversions below which the target's voice is not reached

_FIGURES = ("wer", "wer_rise", "nearer", "nearest", "chance")  # of evaluator voice


class OutsideTrainingWarning(UserWarning):
    """An input of a conversion differs from what the model was trained on, or the model's own figures are poor."""


@dataclass(frozen=True, kw_only=True)
class LearnedVoices:
    """Statistics of a converter's training utterances, and its figures on held-out ones.

    Attributes:
        speakers: names of the training speakers.
        languages: of the training utterances; empty if unknown.
        centers: speaker -> the mean direction of its utterances' speaker codes, of unit length (d).
        code_limit: cosine distance from the own center that 99 % of the training utterances do not exceed.
        mean: mean over utterances of each one's ``summary`` (2c).
        deviation: its standard deviation (2c).
        frames_limit: root mean square of the standardized summary that 99 % of the training utterances do not exceed.
        level: lowest and highest level, dB of full scale, without the outer 1 %.
        bandwidth: the one that 99 % of the training utterances exceed, Hz.
        figures: results of evaluator ``voice`` on held-out utterances, with the word error rates of each language, and below
            "unseen" those on held-out speakers.
    """

    speakers: tuple[str, ...]
    languages: tuple[str, ...]
    centers: dict[str, list[float]]
    code_limit: float
    mean: list[float]
    deviation: list[float]
    frames_limit: float
    level: tuple[float, float]
    bandwidth: float
    figures: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write ``voices.json`` into the folder of a saved model; ``Converter`` and ``reprkit voice convert`` read it.

        Raises:
            CheckpointError: it cannot be written.
        """
        path = Path(folder) / FILE
        try:
            path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", "utf-8")
        except OSError as error:
            raise CheckpointError(f"cannot write {path}: {error}; save the model first") from error
        return path

    def warnings(
        self,
        wave: Float[Tensor, " samples"],
        converter: Converter,
        role: str,
        language: str | None = None,
        *,
        frames: Float[Tensor, "t c"] | None = None,
    ) -> list[str]:
        """Compare a recording with the training utterances; empty if it is like them, or shorter than one second.

        Args:
            wave: without the silence at its ends, at the converter's rate.
            converter: of the model.
            role: of the recording in the messages: "the source" or "the target".
            language: of the recording, such as "it"; None if unknown.
            frames: the front end's, where they are already computed.
        """
        found = []
        if language is not None and self.languages and language not in self.languages:
            found.append(
                f"{role} is in {language!r}, and the model was trained on {', '.join(self.languages)}"
            )
        if len(wave) < MIN_SECONDS * converter.rate:
            return found
        loudness, band = level(wave), bandwidth(wave, converter.rate)
        low, high = self.level[0] - _LEVEL_MARGIN, self.level[1] + _LEVEL_MARGIN
        if not low <= loudness <= high:
            found.append(
                f"{role} has a level of {loudness:.0f} dB, and training speech had {self.level[0]:.0f} to "
                f"{self.level[1]:.0f} dB: change its volume"
            )
        if band < _BAND_MARGIN * self.bandwidth:
            found.append(
                f"{role} holds no sound above {band / 1000:.1f} kHz (a telephone, a low sampling rate?), and training "
                f"speech reached {self.bandwidth / 1000:.1f} kHz"
            )
        frames = converter.front.analyze(wave).frames if frames is None else frames
        distance = self.distance(frames)
        if distance > _FRAMES_MARGIN * self.frames_limit:
            found.append(
                f"{role} sounds unlike the training speech (distance {distance:.1f}, 99 % of training utterances are within "
                f"{self.frames_limit:.1f}): noise, music, or another microphone?"
            )
        name, far = self.nearest_speaker(_speaker_code(converter, frames))
        if far > _CODE_MARGIN * self.code_limit and not self._supports_unseen():
            measured = self.figures.get("unseen", {}).get("nearest")
            known = (
                "unseen voices were not measured"
                if measured is None
                else f"only {measured:.2f} of the conversions of unseen voices came nearest to their target"
            )
            found.append(
                f"{role} is a voice unlike the {len(self.speakers)} that the model learned (nearest: {name}); {known}"
            )
        return found

    def own_warnings(self, language: str | None = None) -> list[str]:
        """Messages on poor word error rates or speaker scores of the model itself.

        Args:
            language: of the source: its own word error rate counts where it was measured; None if unknown.
        """
        found = []
        spoken = self.figures.get("languages", {}).get(language)
        if spoken is None:
            rates, where = self.figures, "held-out speech of its own corpus"
        else:
            rates, where = spoken, f"held-out speech in {language!r}"
        wer, copy = rates.get("wer"), rates.get("copy", {}).get("wer")
        if wer is not None and copy is not None and wer - copy > _LOST_WORDS:
            found.append(
                f"the words will not survive: on {where} the model's conversions had a word error rate of {wer:.2f}, copy "
                f"synthesis {copy:.2f}"
            )
        scores = [self.figures.get("nearest"), self.figures.get("second", {}).get("nearest")]
        known = [score for score in scores if score is not None]
        if known and min(known) < _NEAREST:
            model = "Resemblyzer" if scores[0] == min(known) else "the second speaker verification model"
            found.append(
                f"the voice will not be the target's: on held-out speech of its own corpus only {min(known):.2f} of the model's "
                f"conversions came nearest to their target, by {model}"
            )
        return found

    def distance(self, frames: Float[Tensor, "t c"]) -> float:
        """Root mean square of the utterance's summary, standardized by the training utterances: about 1 within training."""
        values = (summary(frames) - np.array(self.mean)) / np.array(self.deviation)
        return float(np.sqrt(np.square(values).mean()))

    def nearest_speaker(self, code: Float[np.ndarray, " d"]) -> tuple[str, float]:
        """The training speaker whose center is nearest to a speaker code, and the cosine distance."""
        cosines = {name: float(np.dot(center, code)) for name, center in self.centers.items()}
        name = max(cosines, key=lambda each: cosines[each])
        return name, 1 - cosines[name]

    def _supports_unseen(self) -> bool:
        return bool(self.figures.get("unseen", {}).get("nearest", 0.0) >= _UNSEEN)


def describe_voices(
    converter: Converter,
    train: Dataset,
    figures: Mapping[str, Any] | None = None,
    unseen: Mapping[str, Any] | None = None,
) -> LearnedVoices:
    """Measure up to 400 training utterances of at least one second, evenly spaced within each speaker's.

    Args:
        converter: of the trained model.
        train: what it was trained on.
        figures: results of evaluator ``voice`` on held-out utterances.
        unseen: the same on held-out speakers.

    Raises:
        DataError: data that is not speech of several speakers, or without utterances of one second.
    """
    speech = check_utterances(train, "describe_voices")
    usable = utterances_by_speaker(speech, MIN_SECONDS, math.inf)
    if not usable:
        raise DataError(f"{speech.name} has no utterance of {MIN_SECONDS:g} s to describe its voices by")
    summaries, codes, levels, bands, owners = [], [], [], [], []
    for label, numbers in sorted(usable.items()):
        places = np.linspace(0, len(numbers) - 1, min(len(numbers), max(2, _MOST // len(usable))))
        for number in (numbers[place] for place in places.round().astype(int)):
            frames, wave = speech.sound(number).frames, speech.utterance(number).wave
            summaries.append(summary(frames))
            codes.append(_speaker_code(converter, frames))
            levels.append(level(wave))
            bands.append(bandwidth(wave, converter.rate))
            owners.append(label)
    rows, labels = np.stack(codes), np.array(owners)
    centers = {label: _unit(rows[labels == label].mean(0)) for label in sorted(usable)}
    far = [1 - float(np.dot(code, centers[label])) for code, label in zip(rows, owners, strict=True)]
    table = np.stack(summaries)
    mean, deviation = table.mean(0), table.std(0).clip(1e-3)
    distances = np.sqrt(np.square((table - mean) / deviation).mean(1))
    languages = sorted({clip.language for clip in speech.clips if clip.language is not None})
    return LearnedVoices(
        speakers=tuple(speech.speakers[label] for label in centers),
        languages=tuple(languages),
        centers={speech.speakers[label]: center.tolist() for label, center in centers.items()},
        code_limit=float(np.quantile(far, _QUANTILE)),
        mean=mean.tolist(),
        deviation=deviation.tolist(),
        frames_limit=float(np.quantile(distances, _QUANTILE)),
        level=(float(np.quantile(levels, 1 - _QUANTILE)), float(np.quantile(levels, _QUANTILE))),
        bandwidth=float(np.quantile(bands, 1 - _QUANTILE)),
        figures=_select_figures(figures) | ({"unseen": _select_figures(unseen)} if unseen else {}),
    )


def read_learned_voices(folder: str | Path) -> LearnedVoices | None:
    """Read ``voices.json`` of a model's folder; None if there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text("utf-8"))
        record |= {name: tuple(record[name]) for name in ("speakers", "languages", "level")}
        return LearnedVoices(**record)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}\n  delete it to convert without its checks"
        ) from error


def summary(frames: Float[Tensor, "t c"]) -> Float[np.ndarray, " k"]:
    """Mean and logarithm of the standard deviation of each coefficient over an utterance (2c)."""
    values = frames.double().numpy()
    return np.concatenate([values.mean(0), np.log(values.std(0) + 1e-3)])


def level(wave: Float[Tensor, " samples"]) -> float:
    """Root mean square of a waveform, dB of full scale."""
    return 20 * math.log10(max(float(wave.double().square().mean().sqrt()), 1e-10))


def bandwidth(wave: Float[Tensor, " samples"], rate: int) -> float:
    """The highest frequency (Hz) whose mean power lies within 50 dB of the strongest one's."""
    from scipy.signal import welch

    frequencies, power = welch(wave.double().numpy(), rate, nperseg=min(512, len(wave)))
    return float(frequencies[power > power.max() * 10 ** (-_BAND_FLOOR / 10)].max())


def _select_figures(results: Mapping[str, Any] | None) -> dict[str, Any]:
    """The figures that are compared, as plain numbers."""
    found = results or {}
    figures: dict[str, Any] = {name: float(found[name]) for name in _FIGURES if name in found}
    if "wer" in found.get("copy", {}):
        figures["copy"] = {"wer": float(found["copy"]["wer"])}
    if "nearest" in found.get("second", {}):
        figures["second"] = {"nearest": float(found["second"]["nearest"])}
    if found.get("languages"):
        figures["languages"] = {
            language: {
                "wer": float(rates["converted"]["wer"]),
                "copy": {"wer": float(rates["copy"]["wer"])},
            }
            for language, rates in found["languages"].items()
        }
    return figures


def _speaker_code(converter: Converter, frames: Float[Tensor, "t c"]) -> Float[np.ndarray, " d"]:
    with torch.no_grad():
        code = converter.encode(frames, ("speaker",))["speaker"]
    return _unit(code.point.mean(1)[0].double().cpu().numpy())


def _unit(values: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    return values / max(float(np.linalg.norm(values)), 1e-12)
