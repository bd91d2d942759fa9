"""What the tests of VQ share."""

import torch

from reprkit.latents.vq import VQ


def made(*args, seed=0, **options):
    torch.manual_seed(seed)
    return VQ(*args, **{"kmeans": False, "revive": 0.0, **options})
