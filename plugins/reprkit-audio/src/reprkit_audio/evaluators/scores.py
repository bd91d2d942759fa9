"""What judges say of the waveforms of trials, as numbers under their names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit_audio.evaluators.conversion_pairs import ConversionPair


def speaker_scores(
    told: Float[Tensor, "n d"], chosen: Sequence[ConversionPair], centres: Mapping[int, Tensor], *, own: bool
) -> dict[str, float]:
    """What the judge of speakers says of the waveforms of trials, by their embeddings.

    Args:
        told: embeddings.
        chosen: who into whom.
        centres: of every speaker, by label.
        own: they are still the source's voice.
    """
    labels = list(centres)
    alike = told @ torch.stack([centres[label] for label in labels]).T
    rows = torch.arange(len(chosen))
    source = alike[rows, torch.tensor([labels.index(each.speaker) for each in chosen])]
    target = alike[rows, torch.tensor([labels.index(each.target) for each in chosen])]
    best = alike.max(1).values
    if own:
        return {"identified": float((source == best).float().mean()), "similarity": float(source.mean())}
    return {
        "nearer": float((target > source).float().mean()),
        "nearest": float((target == best).float().mean()),
        "similarity": float(target.mean()),
        "similarity_source": float(source.mean()),
    }


def add_scores(found: dict[str, Any], name: str, told: Mapping[str, Any]) -> None:
    """Under the version's name; what the model made has none."""
    home = found if name == "converted" else found.setdefault("natural" if name == "source" else name, {})
    for key, value in told.items():
        if isinstance(value, Mapping):
            home.setdefault(key, {}).update(value)
        else:
            home[key] = value


def nan_mean(values: Sequence[float]) -> float:
    """Over those that are numbers; NaN where none is."""
    there = [value for value in values if not math.isnan(value)]
    return float(np.mean(there)) if there else math.nan
