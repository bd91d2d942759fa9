"""In how many dimensions vectors vary, from the spectrum of their covariance: for the watch in training and for evaluation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def effective_rank(gram: Float[Tensor, "d d"]) -> float:
    """Exp of the entropy of the singular values' shares (Roy and Vetterli 2007, section 3); 0 where nothing varies.

    ``gram`` is a covariance, or the products of centred vectors: its eigenvalues are the squared singular values.
    """
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    # Rounding leaves eigenvalues of about 1e-16 of the largest, whose roots would count.
    singular = singular[singular > 1e-7 * singular.max()]
    return float(torch.special.entr(singular / singular.sum()).sum().exp()) if len(singular) else 0.0
