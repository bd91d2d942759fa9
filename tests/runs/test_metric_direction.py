"""Which end of a metric is better, by its name."""

import pytest

from reprkit.runs.metric_direction import better_direction


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("reconstruction.error", "min"),
        ("knn.accuracy", "max"),
        ("metrics.content.usage", "max"),
        ("reconstruction.perplexity", "min"),
        ("codebook.perplexity", None),
        ("metrics.perplexity", None),
        ("metrics.content.perplexity", None),
        ("lr", None),
    ],
)
def test_direction_of_a_metric(path, expected):
    assert better_direction(path) == expected
