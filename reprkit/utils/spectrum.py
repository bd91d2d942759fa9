"""Effective rank of a set of vectors, from the spectrum of their covariance; used by the training monitor and by evaluators."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def effective_rank(gram: Float[Tensor, "d d"]) -> float:
    """Return exp of the entropy of the normalized singular values (Roy and Vetterli 2007, section 3); 0 if nothing varies.

    ``gram`` is a covariance or Gram matrix of centered vectors: its eigenvalues are the squared singular values.
    """
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    # Rounding leaves eigenvalues of about 1e-16 of the largest, whose square roots would count.
    singular = singular[singular > 1e-7 * singular.max()]
    return float(torch.special.entr(singular / singular.sum()).sum().exp()) if len(singular) else 0.0
