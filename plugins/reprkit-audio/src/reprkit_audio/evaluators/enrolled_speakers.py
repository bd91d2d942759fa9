"""Scores of conversions by a speaker verification model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from reprkit_audio.evaluators.conversion_pairs import Conversion
from reprkit_audio.evaluators.scores import add_scores, paired_scores, speaker_scores
from reprkit_audio.recognition.speaker_verification import speaker_centroid

# Waveforms of 16 kHz -> their embeddings, of unit length (n d).
Embed = Callable[[Sequence[Float[Tensor, " samples"]]], Float[Tensor, "n d"]]

GENERATED = ("converted", "copy", "shift")


class EnrolledSpeakers:
    """Speakers whose real utterances a speaker verification model has embedded.

    Attributes:
        clouds: speaker label -> embeddings of the utterances (n d).
        centroids: speaker label -> their mean, of unit length (d).

    Args:
        embed: the model.
        enrolled: speaker label -> waveforms of real utterances, at the model's rate.
    """

    def __init__(self, embed: Embed, enrolled: Mapping[int, Sequence[Float[Tensor, " samples"]]]) -> None:
        self.embed = embed
        self.clouds = {label: embed(enrolled[label]) for label in sorted(enrolled)}
        self.centroids = {label: speaker_centroid(cloud) for label, cloud in self.clouds.items()}

    def score(self, conversions: Sequence[Conversion]) -> dict[str, Any]:
        """Score all versions; scores of the conversions have no prefix, and ``paired`` compares them with the baseline's."""
        chosen = [each.pair for each in conversions]
        results: dict[str, Any] = {}
        embeddings = {}
        for name in ("source", *GENERATED):
            embeddings[name] = self.embed([each.waves[name] for each in conversions])
            own = name in ("source", "copy")
            add_scores(results, name, speaker_scores(embeddings[name], chosen, self.centroids, own=own))
        results["paired"] = paired_scores(
            embeddings["converted"], embeddings["shift"], chosen, self.centroids
        )
        return results

    def score_converted(self, conversions: Sequence[Conversion]) -> dict[str, float]:
        """Score the conversions alone."""
        embeddings = self.embed([each.waves["converted"] for each in conversions])
        return speaker_scores(embeddings, [each.pair for each in conversions], self.centroids, own=False)
