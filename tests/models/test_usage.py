"""Usage: codes, bits, dimensions; the window; masks."""

import pytest
import torch
from usage_helpers import chosen, codes, dims, vectors

from reprkit.models.usage import SEGMENTS

# ------------------------------------------------------------------------ codes and bits


def test_codes_count_when_chosen_at_least_once():
    usage = codes((10,))
    assert usage.value() == 0
    usage.observe(chosen([3], [3], [7]))
    assert usage.value() == pytest.approx(0.2)
    usage.observe(chosen([0]))  # a second view of the same step
    assert usage.value() == pytest.approx(0.3)


def test_slots_are_counted_separately_and_averaged():
    usage = codes((5, 4, 3))
    usage.observe(chosen([0, 0, 0], [1, 0, 0], [2, 0, 2]))
    assert usage.value() == pytest.approx((3 / 5 + 1 / 4 + 2 / 3) / 3)


def test_a_bit_is_in_use_when_it_took_both_values():
    usage = codes((2, 2, 2, 2))
    usage.observe(chosen([0, 1, 0, 1], [0, 1, 1, 0]))
    assert usage.value() == pytest.approx(0.5)
    usage.update()
    usage.observe(chosen([1, 1, 0, 0]))  # the other value of the first bit comes a step later
    assert usage.value() == pytest.approx(0.75)


def test_an_entry_counts_for_exactly_the_window():
    usage = codes((4,), window=3)
    usage.observe(chosen([2]))
    seen = []
    for _ in range(4):
        seen.append(float(usage.value()))  # with the step that is open
        usage.update()
    assert seen == pytest.approx([0.25, 0.25, 0.25, 0.0])


def test_padded_tokens_do_not_count():
    usage = codes((6, 6))
    usage.observe(chosen([1, 1], [2, 2], [5, 5], mask=torch.tensor([[True, True, False]])))
    assert usage.value() == pytest.approx(2 / 6)
    usage.observe(chosen([4, 4], mask=torch.tensor([[False]])))
    assert usage.value() == pytest.approx(2 / 6)


# ------------------------------------------------------------------------ dimensions


def test_dimensions_above_the_active_variance_count():
    torch.manual_seed(0)
    z = torch.randn(4000, 1, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0])
    usage = dims(4, active_variance=0.01)
    usage.observe(vectors(z))
    assert usage.value() == pytest.approx(0.5)  # variances 1, 0.04 | 0.0025, 0


def test_without_an_active_variance_the_largest_dimension_sets_the_scale():
    torch.manual_seed(0)
    z = torch.randn(4000, 1, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0]) * 1e-3
    usage = dims(4)
    usage.observe(vectors(z))
    assert usage.value() == pytest.approx(0.5)
    dead = dims(4)
    dead.observe(vectors(torch.ones(10, 1, 4)))
    assert dead.value() == 0, "nothing varies, so nothing is in use"


def test_variance_is_that_of_the_mean_where_the_code_is_a_draw():
    torch.manual_seed(0)
    usage = dims(3, active_variance=0.01)
    usage.observe(vectors(torch.randn(100, 2, 3), mean=torch.zeros(100, 2, 3)))
    assert usage.value() == 0


def test_variance_is_that_of_all_views_and_steps_of_the_window():
    torch.manual_seed(0)
    steps = [torch.randn(5, 3, 2) * 0.1 + torch.randn(2) for _ in range(SEGMENTS)]
    whole = torch.cat(steps).flatten(0, 1).var(0, unbiased=False)
    for threshold, expected in (
        (float(whole.min()) * 0.999, 1.0),
        (float(whole.min()) * 1.001, 0.5),
        (float(whole.max()) * 1.001, 0.0),
    ):
        usage = dims(2, active_variance=threshold, floor=0.0)
        for step in steps:
            usage.observe(vectors(step[:2]))
            usage.observe(vectors(step[2:]))
            usage.update()
        assert usage.value() == expected


def test_a_large_mean_does_not_hide_a_small_variance():
    torch.manual_seed(0)
    usage = dims(1, active_variance=0.005)
    for _ in range(4):
        usage.observe(
            vectors(1000 + 0.1 * torch.randn(64, 1, 1))
        )  # sums of squares in float32 would be off by 60
        usage.update()
    assert usage.value() == 1
    still = dims(1, active_variance=0.005)
    still.observe(vectors(torch.full((64, 1, 1), 1000.1)))
    assert still.value() == 0


@pytest.mark.parametrize("window", [SEGMENTS, 5 * SEGMENTS, 200])
def test_a_dimension_that_becomes_constant_is_dropped_after_a_window(window):
    usage = dims(2, window=window, active_variance=0.01)
    alive, silent = torch.tensor([[[1.0, 1.0]], [[-1.0, -1.0]]]), torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
    for _ in range(2 * window):
        usage.observe(vectors(alive))
        usage.update()
    assert usage.value() == 1
    for step in range(window):
        if (
            step <= window - window // SEGMENTS
        ):  # forgotten by parts of a window: not before seven eighths of it
            assert usage.value() == 1, step
        usage.observe(vectors(silent))
        usage.update()
    assert usage.value() == 0.5


def test_padded_tokens_have_no_effect():
    torch.manual_seed(0)
    z = torch.randn(6, 4, 3) * torch.tensor([1.0, 0.05, 1.0])
    mask = torch.arange(4)[None] < torch.tensor([4, 3, 1, 2, 4, 0])[:, None]
    usage = dims(3, active_variance=0.01)
    usage.observe(vectors(z.masked_fill(~mask[..., None], float("nan")), mask=mask))
    usage.update()
    rows = z[mask]
    assert usage.moments[0, 0].tolist() == [14.0] * 3
    torch.testing.assert_close(usage.moments[0, 1], rows.double().sum(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(usage.moments[0, 2], rows.double().square().sum(0), rtol=1e-5, atol=1e-6)
    usage.observe(vectors(z, mask=torch.zeros_like(mask)))  # no valid token at all
    assert usage.value() == pytest.approx(2 / 3)


def test_half_precision_codes_are_accepted():
    usage = dims(2)
    usage.observe(vectors(torch.randn(8, 2, 2).bfloat16()))
    assert usage.value() == 1
