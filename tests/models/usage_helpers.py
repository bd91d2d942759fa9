"""Helpers of the usage tests: usage of a minimal latent, and codes to observe."""

import torch

from reprkit.interfaces import Latent
from reprkit.models.usage import Usage
from reprkit.types import Code


class Plain(Latent):
    """A minimal latent."""


def codes(vocab, window=8, **options):
    return Usage(Plain(in_dim=1, out_dim=1, vocab=vocab), "latent it", window=window, **options)


def dims(width, window=8, active_variance=None, **options):
    latent = Plain(in_dim=width, out_dim=width)
    latent.active_variance = active_variance
    return Usage(latent, "latent it", window=window, **options)


def chosen(*rows, mask=None):
    """A code of one example with these indices."""
    indices = torch.tensor(rows)[None]
    return Code(z=torch.zeros(1, len(rows), 1), indices=indices, mask=mask)


def vectors(z, mean=None, mask=None):
    return Code(z=z, mean=mean, mask=mask)
