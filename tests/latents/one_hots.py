"""Features with given classes and groups, and a OneHot latent for them, for the tests of OneHot."""

import torch

from reprkit.data.padding import length_mask
from reprkit.latents.one_hot import OneHot
from reprkit.types import Features

CLASSES, GROUPS = 5, 2


def features(b=5, n=3, width=CLASSES * GROUPS, seed=0, mask=None):
    return Features(x=torch.randn(b, n, width, generator=torch.Generator().manual_seed(seed)) * 2, mask=mask)


def logits(x, classes=CLASSES):
    return x.unflatten(-1, (-1, classes))


def latent(**options):
    return OneHot(CLASSES, groups=GROUPS, **options)


MASK = length_mask(torch.tensor([3, 1, 2, 3, 0]), 3)
