"""Whether lower or higher values of a metric are better.  Does not import torch."""

from __future__ import annotations

import re
from typing import Literal

# Direction by the last piece of a metric's name; metrics without a direction are absent.
BETTER: dict[str, Literal["min", "max"]] = {
    **dict.fromkeys(
        ("error", "mse", "nll", "negative_elbo", "perplexity", "bits_per_dim", "loss", "wer", "cer"), "min"
    ),
    **dict.fromkeys(("accuracy", "spearman", "usage", "trustworthiness"), "max"),
}
# Perplexity of the use of codes, not of a prediction: higher is not worse.  Logged ones may be either: "metrics.FACTOR.perplexity".
_NEUTRAL = re.compile(r"(codebook|metrics|metrics\..+)\.perplexity")


def better_direction(path: str) -> Literal["min", "max"] | None:
    """Return "min" or "max", the better direction of a metric such as ``"knn.accuracy"``, or None if it has none."""
    return None if _NEUTRAL.fullmatch(path) else BETTER.get(path.rpartition(".")[2])
