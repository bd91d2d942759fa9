"""A metric over several runs that differ in their seed: mean and standard deviation.  Does not import torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reprkit.runs.metrics import finite_metrics


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n − 1) of ``count`` values; the deviation of a single value is NaN."""

    mean: float
    deviation: float
    count: int


def spread_of(values: Iterable[float]) -> Spread:
    """Return mean, deviation and number of finite values; NaN where there are none."""
    finite = [float(value) for value in values if math.isfinite(value)]
    mean = statistics.fmean(finite) if finite else math.nan
    return Spread(mean, statistics.stdev(finite) if len(finite) > 1 else math.nan, len(finite))


def spread_metrics(runs: Iterable[Mapping[str, object]]) -> dict[str, Spread]:
    """Return the spread of every number over the runs' results, by flat name such as ``"knn.accuracy"``."""
    values: dict[str, list[float]] = {}
    for run in runs:
        for path, value in finite_metrics(run).items():
            values.setdefault(path, []).append(value)
    return {path: spread_of(each) for path, each in values.items()}
