"""What the tests of codebooks share."""

import torch


def distances(x, codes):
    return torch.cdist(x.double(), codes.double(), compute_mode="donot_use_mm_for_euclid_dist").square()
