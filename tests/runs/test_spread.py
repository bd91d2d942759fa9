"""Mean and deviation of a metric over seeds."""

import math

import pytest

from reprkit.runs.spread import Spread, spread_metrics, spread_of


def test_mean_and_sample_deviation():
    assert spread_of([1.0, 2.0, 4.0, math.nan]) == Spread(
        pytest.approx(7 / 3), pytest.approx(1.5275252316519468), 3
    )
    single = spread_of([2.0])
    assert (single.mean, single.count) == (2.0, 1)
    assert math.isnan(single.deviation)
    assert math.isnan(spread_of([]).mean)


def test_metrics_are_matched_by_name():
    found = spread_metrics([{"knn": {"accuracy": 0.5}}, {"knn": {"accuracy": 0.7, "n": 9}}])
    assert found["knn.accuracy"].mean == pytest.approx(0.6)
    assert found["knn.n"].count == 1
