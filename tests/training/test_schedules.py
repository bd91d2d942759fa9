"""The factor on the learning rate, at each step."""

import pytest

from reprkit.errors import PartArgumentError, ReferenceSyntaxError
from reprkit.training.schedules import schedule_from


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("linear(final=0.2)", [1, 0.8, 0.6, 0.4]),
        ("cosine", [1, 0.8535534, 0.5, 0.1464466]),
        ("exponential(final=0.0625)", [1, 0.5, 0.25, 0.125]),
        (lambda step: 10.0 - step, [10, 9, 8, 7]),
    ],
)
def test_factors_of_the_named_schedules(schedule, expected):
    factor = schedule_from(schedule, 4)
    assert [factor(step) for step in range(4)] == pytest.approx(expected)


def test_warmup_rises_to_the_schedule_s_start():
    factor = schedule_from("linear", 8, warmup=3)
    assert [factor(step) for step in range(8)] == pytest.approx([0.25, 0.5, 0.75, 1, 0.8, 0.6, 0.4, 0.2])
    assert schedule_from("constant", 3, warmup=3)(2) == pytest.approx(0.75)


def test_the_factor_is_constant_after_the_end():
    assert schedule_from("cosine(final=0.1)", 5)(50) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "wrong", ["cosine(end=1)", "exponential(final=0)", "linear(final='a')", "acme/cosine"]
)
def test_invalid_schedules_are_refused(wrong):
    with pytest.raises(PartArgumentError):
        schedule_from(wrong, 5)
    with pytest.raises(ReferenceSyntaxError):
        schedule_from("cosine(", 5)
