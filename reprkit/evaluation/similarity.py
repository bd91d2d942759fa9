"""Similarity of two representations of the same examples."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError
from reprkit.utils.precision import to_float64


def linear_cka(x: Float[Tensor, "n d"], y: Float[Tensor, "n p"]) -> float:
    """Return linear centered kernel alignment, in [0, 1] (Kornblith et al. 2019, arXiv 1905.00414, eq. 4 and section 3).

    It is 1 if one representation is a rotation and a scaling of the other; widths may differ.  0 if one does not vary.

    Raises:
        DataError: different numbers of rows, fewer than two, or a value that is not finite.
    """
    if len(x) != len(y) or len(x) < 2:
        raise DataError(f"linear_cka compares two examples or more, the same of both: {len(x)} and {len(y)}")
    if not (x.isfinite().all() and y.isfinite().all()):
        raise DataError("linear_cka: a value is not finite")
    x, y = to_float64(x), to_float64(y)
    x, y = x - x.mean(0), y - y.mean(0)
    if len(x) < max(x.shape[1], y.shape[1]):  # the same by Gram matrices of examples, which are smaller
        one, two = x @ x.T, y @ y.T
        shared, norms = (one * two).sum(), one.norm() * two.norm()
    else:
        shared, norms = (x.T @ y).square().sum(), (x.T @ x).norm() * (y.T @ y).norm()
    return float(shared / norms) if norms > 0 else 0.0
