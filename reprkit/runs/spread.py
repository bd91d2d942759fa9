"""A mean of several runs with its deviation: it is read and compared as the mean, and shown as "0.941 ± 0.003"."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


class Spread(float):
    """The mean of some values.

    Attributes:
        deviation: standard deviation of the values (n - 1 in the denominator), not of the mean.
        count: number of values, at least two.
    """

    deviation: float
    count: int

    def __new__(cls, values: Sequence[float]) -> Spread:
        """Compute mean and deviation; both are NaN if a value is not finite."""
        finite = all(map(math.isfinite, values))
        spread = super().__new__(cls, statistics.fmean(values) if finite else math.nan)
        spread.deviation = statistics.stdev(values) if finite else math.nan
        spread.count = len(values)
        return spread


def summarize(values: Sequence[float]) -> float | None:
    """Return the mean of values as a ``Spread``, the value itself if it is the only one, and None if there is none."""
    if not values:
        return None
    return values[0] if len(values) == 1 else Spread(values)
