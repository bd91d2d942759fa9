"""A small VQ latent for the tests of VQ."""

import torch

from reprkit.latents.vq import VQ


def make_vq(*args, seed=0, **options):
    torch.manual_seed(seed)
    return VQ(*args, **{"kmeans": False, "revive": 0.0, **options})
