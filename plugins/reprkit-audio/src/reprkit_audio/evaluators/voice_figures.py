"""Figures of a voice conversion: players, spectrograms, and scatter plots of voices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.resampling import resample
from reprkit.reporting.figures import Images, Scatter
from reprkit.reporting.sounds import Sounds
from reprkit_audio.converter import Converter
from reprkit_audio.data.recordings import UtteranceDataset
from reprkit_audio.evaluators.spectrograms import mel_spectrograms
from reprkit_audio.frontends.log_mel import LogMel
from reprkit_audio.recognition.speaker_verification import RATE, speaker_verifier
from reprkit_audio.recognition.word_errors import character_error_rate, normalize_text, word_error_rate

if TYPE_CHECKING:
    from reprkit_audio.evaluators.conversion_pairs import Conversion

_HEARD = " Beneath a player: what Whisper-base heard, with word and character error rate."
_MAX_POINTS = 200  # utterances
_MAX_SECONDS = 3.0  # seconds of a spectrogram
PROMPT = "prompt"  # in ``Conversion.heard``: the first of the target's utterances, which says its own words
# Column of the players -> the version of a conversion.
_VERSIONS = {
    "source": "source",
    "target's voice": PROMPT,
    "converted": "converted",
    "copy synthesis": "copy",
    "pitch and formants shifted": "shift",
}


def figures(
    converter: Converter,
    data: UtteranceDataset,
    conversions: Sequence[Conversion],
    clouds: Mapping[int, Tensor],
    seed: int,
) -> dict[str, Any]:
    """Build the figures by name.

    Args:
        converter: the model whose speaker codes are plotted.
        data: the utterances that were converted.
        conversions: the conversions to show.
        clouds: Resemblyzer's embeddings of real utterances, by label (n d).
        seed: of the choice of utterances.
    """
    names = data.speakers
    rows: dict[str, dict[str, Tensor]] = {}
    notes: dict[str, dict[str, str]] = {}
    for number, each in enumerate(conversions, 1):
        prompt, spoken = data.utterance(each.pair.prompts[0]), data.clips[each.pair.prompts[0]].text
        title = f"{number}. {names[each.pair.speaker]} → {names[each.pair.target]}"
        text = data.clips[each.pair.source].text
        title = f"{title}: {text}" if text else title
        rows[title] = {
            column: resample(prompt.wave, prompt.rate, RATE) if version == PROMPT else each.waves[version]
            for column, version in _VERSIONS.items()
        }
        notes[title] = {
            column: _describe_heard(each.heard[version], (spoken if version == PROMPT else text) or "")
            for column, version in _VERSIONS.items()
            if version in each.heard
        }
    sounds = {name: {label: wave.numpy() for label, wave in row.items()} for name, row in rows.items()}
    shown = ("source", "converted", "copy synthesis")
    front, samples = LogMel(rate=RATE), round(_MAX_SECONDS * RATE)
    return {
        "players": Sounds(
            title="Listen",
            rows=sounds,
            notes=notes,
            rate=RATE,
            caption="The target's voice is another sentence of that speaker, whose own words count beneath it. Copy synthesis is "
            "the source through the vocoder alone; shifted pitch and formants are the baseline without learning."
            + (_HEARD if any(notes.values()) else ""),
        ),
        "spectrograms": Images(
            title="Spectrograms",
            rows={
                label: mel_spectrograms(front, [row[label][:samples] for row in rows.values()])
                for label in shown
            },
            span=(-80.0, 0.0),
            colours="viridis",
            cell=11.0,
            caption=f"Mel bands over the first {_MAX_SECONDS:g} s, 80 dB range.",
        ),
        "speaker-codes": _scatter(
            "Speaker codes of the model",
            *_speaker_codes(converter, data, seed),
            names,
            "One point per held-out utterance.",
        ),
        "speaker-judge": _scatter(
            "Speaker embeddings of Resemblyzer",
            torch.cat(list(clouds.values())),
            [label for label, cloud in clouds.items() for _ in range(len(cloud))],
            names,
            "Real utterances.",
            converted=_conversion_embeddings(conversions),
        ),
    }


def _describe_heard(heard: str, text: str) -> str:
    """What was heard, with its error rates where it is known what was said."""
    if not normalize_text(text):
        return heard or "nothing"
    wer, cer = word_error_rate([heard], [text]), character_error_rate([heard], [text])
    return f"{heard or 'nothing'} (WER {wer:.2f}, CER {cer:.2f})"


def _speaker_codes(converter: Converter, data: UtteranceDataset, seed: int) -> tuple[Tensor, list[int]]:
    numbers = np.arange(len(data.clips))
    if len(numbers) > _MAX_POINTS:
        numbers = np.sort(np.random.default_rng(seed).choice(numbers, _MAX_POINTS, replace=False))
    codes = [
        converter.encode(data.sound(int(number)).frames, ("speaker",))["speaker"].point.mean(1).cpu()
        for number in numbers
    ]
    return torch.cat(codes), [data.speakers.index(data.clips[int(number)].speaker) for number in numbers]


def _conversion_embeddings(conversions: Sequence[Conversion]) -> tuple[Tensor, list[int]]:
    embeddings = speaker_verifier()([each.waves["converted"] for each in conversions])
    return embeddings, [each.pair.target for each in conversions]


def _scatter(
    title: str,
    x: Tensor,
    labels: Sequence[int],
    names: Sequence[str],
    caption: str,
    converted: tuple[Tensor, list[int]] | None = None,
) -> Scatter:
    """Scatter plot of the first two principal components of ``x``; conversions are added in separate colors."""
    from sklearn.decomposition import PCA

    values = x.double().numpy()
    pca = PCA(min(2, *values.shape)).fit(values)
    rows, marks = [pca.transform(values)], list(labels)
    legend = dict(enumerate(names))
    if converted is not None:
        rows.append(pca.transform(converted[0].double().numpy()))
        marks += [len(names) + label for label in converted[1]]
        legend |= {len(names) + label: f"into {name}" for label, name in enumerate(names)}
        caption += " Conversions of the examples above are added."
    points = np.concatenate(rows)
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    share = float(np.nan_to_num(pca.explained_variance_ratio_).sum())
    return Scatter(
        title=title,
        points=points,
        labels=np.array(marks),
        names=legend,
        caption=f"{caption} Principal components, {share:.0%} of the variance.",
    )
