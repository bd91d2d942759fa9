"""Measures of a set of vectors from its spectrum: effective rank, RankMe, alpha-ReQ and LiDAR; for training and evaluators."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError
from reprkit.utils.precision import to_float64


def effective_rank(gram: Float[Tensor, "d d"]) -> float:
    """Return exp of the entropy of the normalized singular values (Roy and Vetterli 2007, section 3); 0 if nothing varies.

    ``gram`` is a covariance or Gram matrix of centered vectors: its eigenvalues are the squared singular values.
    """
    singular = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    # Rounding leaves eigenvalues of about 1e-16 of the largest, whose square roots would count.
    singular = singular[singular > 1e-7 * singular.max()]
    return float(torch.special.entr(singular / singular.sum()).sum().exp()) if len(singular) else 0.0


def rankme(x: Float[Tensor, "n d"], epsilon: float = 1e-7) -> float:
    """Return RankMe, from 1 to min(n, d) (Garrido et al. 2023, arXiv 2210.02885, eqs. 1 and 2): the effective rank, not centered.

    It is exp of the entropy of the shares that the singular values have in their sum, ``epsilon`` added to each share.  0 if every
    value is 0.

    Raises:
        DataError: fewer than two rows, or a value that is not finite.
    """
    singular = torch.linalg.svdvals(_checked(x, "rankme"))
    if not singular.max() > 0:
        return 0.0
    return float(torch.special.entr(singular / singular.sum() + epsilon).sum().exp())


def alpha_req(x: Float[Tensor, "n d"], first: int = 1, last: int | None = None) -> float:
    """Return how fast the covariance's spectrum decays, eigenvalue i as i to -alpha (alpha-ReQ, Agrawal et al. 2022, NeurIPS).

    The slope of log eigenvalue over log i is fitted with weights 1 / i, as Stringer et al. 2019 fit it.  0 is a flat spectrum; the
    paper finds that representations near 1 generalize best.

    Args:
        x: the vectors (n d).
        first: the first eigenvalue of the fit, from 1, the largest one.
        last: the last one; None: the last above 1e-12 of the largest, at most min(n - 1, d).

    Raises:
        DataError: fewer than two rows, a value that is not finite, or fewer than two eigenvalues in the range.
    """
    x = _checked(x, "alpha_req")
    singular = torch.linalg.svdvals(x - x.mean(0))
    values = singular[: min(len(x) - 1, x.shape[1])].square()
    values = values[values > 1e-12 * values.max()][first - 1 : last]
    if len(values) < 2:
        raise DataError(
            f"alpha_req fits a line to two eigenvalues or more; there are {len(values)} that are not zero from number {first} on"
        )
    place = torch.arange(first, first + len(values), dtype=values.dtype, device=values.device)
    weight, level, height = 1 / place, place.log(), values.log()
    level = level - (weight * level).sum() / weight.sum()
    return float(-(weight * level * height).sum() / (weight * level.square()).sum())


def lidar(x: Float[Tensor, "n q d"], delta: float = 1e-4, epsilon: float = 1e-7) -> float:
    """Return LiDAR, from 1 to min(n - 1, d) (Thilak et al. 2024, arXiv 2312.04000, section 4): the rank of what examples differ in.

    It is exp of the entropy of the shares of the eigenvalues of ``W^-1/2 B W^-1/2``, ``epsilon`` added to each share.  B is the
    covariance of the means of the ``n`` examples, W that of the ``q`` views about their example's mean, plus ``delta`` times the
    identity.  0 if all examples have the same mean.

    Args:
        x: vectors of q views (augmentations) of each of n examples (n q d).
        delta: what is added to the variances within examples.
        epsilon: what is added to each share.

    Raises:
        DataError: fewer than two examples or views, or a value that is not finite.
    """
    if x.ndim != 3 or x.shape[1] < 2:
        raise DataError(f"lidar reads two views or more of each example, (n q d), not {tuple(x.shape)}")
    x = _checked(x, "lidar")
    means = x.mean(1)
    about = (x - means[:, None]).flatten(0, 1)
    within = about.T @ about / len(about)
    values, vectors = torch.linalg.eigh(within)
    # An eigenvalue of 0 is rounded to either side of it.
    whitened = (means - means.mean(0)) @ (vectors / (values.clamp(min=0) + delta).sqrt())
    shares = torch.linalg.svdvals(whitened).square()  # the eigenvalues, times n
    if not shares.sum() > 0:
        return 0.0
    return float(torch.special.entr(shares / shares.sum() + epsilon).sum().exp())


def _checked(x: Tensor, name: str) -> Tensor:
    """Return ``x`` in float64."""
    if len(x) < 2:
        raise DataError(f"{name} reads two vectors or more, not {len(x)}")
    if not x.isfinite().all():
        raise DataError(f"{name}: a value of the vectors is not finite")
    return to_float64(x)
