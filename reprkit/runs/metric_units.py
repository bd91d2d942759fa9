"""Units of metrics and of logged numbers.  Does not import torch."""

from __future__ import annotations

# Unit by the last piece of a name; names without a unit are absent.
UNITS = {
    **dict.fromkeys(("nll", "negative_elbo", "kl"), "nats per example"),
    **dict.fromkeys(("accuracy", "usage", "trustworthiness", "explained"), "share, 0 to 1"),
    "wer": "errors per word",
    "cer": "errors per character",
    "error": "squared error per example",
    "mse": "squared error per element",
    "bits": "bits per example",
    "bits_per_dim": "bits per dimension",
    "effective_rank": "dimensions",
    "active": "dimensions",
    "dead": "codes",
    "n": "examples",
}
# Unit of whole names, where the last piece says something else.
_UNITS_OF_PATHS = {
    "terms.reconstruction": "nats per example",  # the objective's negative log-likelihood
    "codebook.entropy": "bits per token",
    "codebook.perplexity": "codes",
    "reconstruction.perplexity": "symbols",
}


def unit_of(path: str) -> str:
    """Return the unit of a metric or logged number such as ``"reconstruction.error"`` or ``"terms.kl"``; "" if it has none."""
    return _UNITS_OF_PATHS.get(path) or UNITS.get(path.rpartition(".")[2], "")
