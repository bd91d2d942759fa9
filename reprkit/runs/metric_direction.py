"""Which end of a metric is the better one.  Torch-free."""

from __future__ import annotations

from typing import Literal

# The better end of metrics that have one, by their own name.
BETTER: dict[str, Literal["min", "max"]] = {
    **dict.fromkeys(("error", "mse", "nll", "negative_elbo", "perplexity", "bits_per_dim", "loss"), "min"),
    **dict.fromkeys(("accuracy", "usage", "trustworthiness"), "max"),
}
NEUTRAL = ("codebook.perplexity",)  # of entries, not of a prediction: more is not worse


def better_direction(path: str) -> Literal["min", "max"] | None:
    """Whether the lower or the higher value of a metric (``"knn.accuracy"``) is the better one; None where neither is."""
    return None if path in NEUTRAL else BETTER.get(path.rpartition(".")[2])
