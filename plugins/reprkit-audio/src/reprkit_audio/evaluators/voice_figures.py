"""What the page of a conversion shows: players, spectrograms, and the voices as points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.padding import padded
from reprkit.data.resampling import resample
from reprkit.reporting.figures import Images, Scatter
from reprkit.reporting.sounds import Sounds
from reprkit_audio.converter import Converter
from reprkit_audio.data.recordings import UtteranceDataset
from reprkit_audio.frontends.log_mel import LogMel
from reprkit_audio.recognition.speaker_verification import RATE, speaker_verifier

if TYPE_CHECKING:
    from reprkit_audio.evaluators.conversion_pairs import Conversion

_MAX_POINTS = 200  # utterances
_MAX_SECONDS = 3.0  # seconds of a spectrogram
_VERSIONS = ("source", "target's voice", "converted", "copy synthesis", "pitch and formants moved")


def figures(
    converter: Converter,
    data: UtteranceDataset,
    made: Sequence[Conversion],
    clouds: Mapping[int, Tensor],
    seed: int,
) -> dict[str, Any]:
    """Figures by name.

    Args:
        converter: whose codes of speakers are drawn.
        data: the utterances that were converted.
        made: the conversions to be shown.
        clouds: the judge's embeddings of real utterances, by label (n d).
        seed: of which utterances' codes are drawn.
    """
    names = data.speakers
    rows = {}
    for number, each in enumerate(made, 1):
        prompt = data.utterance(each.pair.prompts[0])
        waves = each.waves
        versions = (
            waves["source"],
            resample(prompt.wave, prompt.rate, RATE),
            waves["converted"],
            waves["copy"],
            waves["shift"],
        )
        title = f"{number}. {names[each.pair.speaker]} → {names[each.pair.target]}"
        text = data.clips[each.pair.source].text
        rows[f"{title}: {text}" if text else title] = dict(zip(_VERSIONS, versions, strict=True))
    listened = {name: {label: wave.numpy() for label, wave in row.items()} for name, row in rows.items()}
    shown = ("source", "converted", "copy synthesis")
    return {
        "players": Sounds(
            title="Listen",
            rows=listened,
            rate=RATE,
            caption="The target's voice is another sentence of its. Copy synthesis is the source through the vocoder "
            "alone; moved pitch and formants are the baseline, which learned nothing.",
        ),
        "spectrograms": Images(
            title="Spectrograms",
            rows={label: _spectrograms([row[label] for row in rows.values()]) for label in shown},
            span=(-80.0, 0.0),
            colours="viridis",
            cell=11.0,
            caption=f"Mel bands from low to high over the first {_MAX_SECONDS:g} s, 80 dB from the loudest down.",
        ),
        "speaker-codes": _scatter(
            "Speaker codes of the model",
            *_speaker_codes(converter, data, seed),
            names,
            "An utterance a point, held out.",
        ),
        "speaker-judge": _scatter(
            "Speakers as the judge hears them",
            torch.cat(list(clouds.values())),
            [label for label, cloud in clouds.items() for _ in range(len(cloud))],
            names,
            "Real utterances.",
            converted=_conversion_embeddings(made),
        ),
    }


def _speaker_codes(converter: Converter, data: UtteranceDataset, seed: int) -> tuple[Tensor, list[int]]:
    numbers = np.arange(len(data.clips))
    if len(numbers) > _MAX_POINTS:
        numbers = np.sort(np.random.default_rng(seed).choice(numbers, _MAX_POINTS, replace=False))
    codes = [
        converter.encode(data.sound(int(number)).frames, ("speaker",))["speaker"].point.mean(1).cpu()
        for number in numbers
    ]
    return torch.cat(codes), [data.speakers.index(data.clips[int(number)].speaker) for number in numbers]


def _conversion_embeddings(made: Sequence[Conversion]) -> tuple[Tensor, list[int]]:
    told = speaker_verifier()([each.waves["converted"] for each in made])
    return told, [each.pair.target for each in made]


def _scatter(
    title: str,
    x: Tensor,
    labels: Sequence[int],
    names: Sequence[str],
    caption: str,
    converted: tuple[Tensor, list[int]] | None = None,
) -> Scatter:
    """The first two principal components of ``x``; conversions are laid over them in colours of their own."""
    from sklearn.decomposition import PCA

    values = x.double().numpy()
    pca = PCA(min(2, *values.shape)).fit(values)
    rows, marks = [pca.transform(values)], list(labels)
    called = dict(enumerate(names))
    if converted is not None:
        rows.append(pca.transform(converted[0].double().numpy()))
        marks += [len(names) + label for label in converted[1]]
        called |= {len(names) + label: f"into {name}" for label, name in enumerate(names)}
        caption += " Beside them what was converted, for the examples above."
    points = np.concatenate(rows)
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    share = float(np.nan_to_num(pca.explained_variance_ratio_).sum())
    return Scatter(
        title=title,
        points=points,
        labels=np.array(marks),
        names=called,
        caption=f"{caption} Principal components, {share:.0%} of the variance.",
    )


def _spectrograms(waves: Sequence[Tensor]) -> np.ndarray[Any, Any]:
    """Mel spectrograms (n bands frames 1), dB under the loudest, low bands at the bottom, filled with silence."""
    front = LogMel(rate=RATE)
    made = []
    for cut in padded([wave[: round(_MAX_SECONDS * RATE)] for wave in waves], "sounds")[0]:
        levels = 20 * front.denormalize(front.analyze(cut).frames).log10()
        made.append((levels - levels.max()).clamp(min=-80).T.flip(0))
    return torch.stack(made).unsqueeze(-1).numpy()
