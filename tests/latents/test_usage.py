"""Usage: codes, bits, dimensions; the window; masks; ranks; the one warning."""

import warnings

import pytest
import torch

from reprkit import distributed
from reprkit.assembly import build
from reprkit.interfaces import Latent
from reprkit.latents.binary import Binary
from reprkit.latents.gaussian import Gaussian
from reprkit.latents.one_hot import OneHot
from reprkit.testing.pool import together
from reprkit.testing.worlds import VECTORS, random_batch
from reprkit.types import Code, Features
from reprkit.usage import PARTS, CollapseWarning, Usage


class Plain(Latent):
    """A latent with nothing of its own."""


def codes(vocab, window=8, **options):
    return Usage(Plain(in_dim=1, out_dim=1, vocab=vocab), "latent it", window=window, **options)


def dims(width, window=8, active_variance=None, **options):
    latent = Plain(in_dim=width, out_dim=width)
    latent.active_variance = active_variance
    return Usage(latent, "latent it", window=window, **options)


def chosen(*rows, mask=None):
    """One example whose tokens chose these indices."""
    indices = torch.tensor(rows)[None]
    return Code(z=torch.zeros(1, len(rows), 1), indices=indices, mask=mask)


def vectors(z, mean=None, mask=None):
    return Code(z=z, mean=mean, mask=mask)


# ------------------------------------------------------------------------ codes and bits


def test_codes_count_when_chosen_at_least_once():
    usage = codes((10,))
    assert usage.value() == 0
    usage.see(chosen([3], [3], [7]))
    assert usage.value() == pytest.approx(0.2)
    usage.see(chosen([0]))  # a second view of the same step
    assert usage.value() == pytest.approx(0.3)


def test_slots_are_counted_apart_and_averaged():
    usage = codes((5, 4, 3))
    usage.see(chosen([0, 0, 0], [1, 0, 0], [2, 0, 2]))
    assert usage.value() == pytest.approx((3 / 5 + 1 / 4 + 2 / 3) / 3)


def test_a_bit_is_in_use_when_it_took_both_values():
    usage = codes((2, 2, 2, 2))
    usage.see(chosen([0, 1, 0, 1], [0, 1, 1, 0]))
    assert usage.value() == pytest.approx(0.5)
    usage.update()
    usage.see(chosen([1, 1, 0, 0]))  # the other value of the first bit comes a step later
    assert usage.value() == pytest.approx(0.75)


def test_an_entry_counts_for_exactly_the_window():
    usage = codes((4,), window=3)
    usage.see(chosen([2]))
    seen = []
    for _ in range(4):
        seen.append(float(usage.value()))  # with the step that is open
        usage.update()
    assert seen == pytest.approx([0.25, 0.25, 0.25, 0.0])


def test_what_padded_tokens_chose_does_not_count():
    usage = codes((6, 6))
    usage.see(chosen([1, 1], [2, 2], [5, 5], mask=torch.tensor([[True, True, False]])))
    assert usage.value() == pytest.approx(2 / 6)
    usage.see(chosen([4, 4], mask=torch.tensor([[False]])))
    assert usage.value() == pytest.approx(2 / 6)


# ------------------------------------------------------------------------ dimensions


def test_dimensions_above_the_active_variance_count():
    torch.manual_seed(0)
    z = torch.randn(4000, 1, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0])
    usage = dims(4, active_variance=0.01)
    usage.see(vectors(z))
    assert usage.value() == pytest.approx(0.5)  # variances 1, 0.04 | 0.0025, 0


def test_without_an_active_variance_the_largest_dimension_sets_the_scale():
    torch.manual_seed(0)
    z = torch.randn(4000, 1, 4) * torch.tensor([1.0, 0.2, 0.05, 0.0]) * 1e-3
    usage = dims(4)
    usage.see(vectors(z))
    assert usage.value() == pytest.approx(0.5)
    dead = dims(4)
    dead.see(vectors(torch.ones(10, 1, 4)))
    assert dead.value() == 0, "nothing varies, so nothing is in use"


def test_the_mean_is_looked_at_where_the_code_is_a_draw():
    torch.manual_seed(0)
    usage = dims(3, active_variance=0.01)
    usage.see(vectors(torch.randn(100, 2, 3), mean=torch.zeros(100, 2, 3)))
    assert usage.value() == 0


def test_variance_is_that_of_all_views_and_steps_of_the_window():
    torch.manual_seed(0)
    steps = [torch.randn(5, 3, 2) * 0.1 + torch.randn(2) for _ in range(PARTS)]
    whole = torch.cat(steps).flatten(0, 1).var(0, unbiased=False)
    for threshold, expected in (
        (float(whole.min()) * 0.999, 1.0),
        (float(whole.min()) * 1.001, 0.5),
        (float(whole.max()) * 1.001, 0.0),
    ):
        usage = dims(2, active_variance=threshold, floor=0.0)
        for step in steps:
            usage.see(vectors(step[:2]))
            usage.see(vectors(step[2:]))
            usage.update()
        assert usage.value() == expected


def test_a_large_mean_does_not_drown_a_small_variance():
    torch.manual_seed(0)
    usage = dims(1, active_variance=0.005)
    for _ in range(4):
        usage.see(
            vectors(1000 + 0.1 * torch.randn(64, 1, 1))
        )  # sums of squares in float32 would be off by 60
        usage.update()
    assert usage.value() == 1
    still = dims(1, active_variance=0.005)
    still.see(vectors(torch.full((64, 1, 1), 1000.1)))
    assert still.value() == 0


@pytest.mark.parametrize("window", [PARTS, 5 * PARTS, 200])
def test_a_dimension_that_falls_silent_is_forgotten_after_a_window(window):
    usage = dims(2, window=window, active_variance=0.01)
    alive, silent = torch.tensor([[[1.0, 1.0]], [[-1.0, -1.0]]]), torch.tensor([[[1.0, 0.0]], [[-1.0, 0.0]]])
    for _ in range(2 * window):
        usage.see(vectors(alive))
        usage.update()
    assert usage.value() == 1
    for step in range(window):
        if step <= window - window // PARTS:  # forgotten by parts of a window: not before seven eighths of it
            assert usage.value() == 1, step
        usage.see(vectors(silent))
        usage.update()
    assert usage.value() == 0.5


def test_padded_tokens_of_any_value_change_nothing():
    torch.manual_seed(0)
    z = torch.randn(6, 4, 3) * torch.tensor([1.0, 0.05, 1.0])
    mask = torch.arange(4)[None] < torch.tensor([4, 3, 1, 2, 4, 0])[:, None]
    usage = dims(3, active_variance=0.01)
    usage.see(vectors(z.masked_fill(~mask[..., None], float("nan")), mask=mask))
    usage.update()
    rows = z[mask]
    assert usage.moments[0, 0].tolist() == [14.0] * 3
    torch.testing.assert_close(usage.moments[0, 1], rows.double().sum(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(usage.moments[0, 2], rows.double().square().sum(0), rtol=1e-5, atol=1e-6)
    usage.see(vectors(z, mask=torch.zeros_like(mask)))  # no valid token at all
    assert usage.value() == pytest.approx(2 / 3)


def test_half_precision_codes_are_taken():
    usage = dims(2)
    usage.see(vectors(torch.randn(8, 2, 2).bfloat16()))
    assert usage.value() == 1


# ------------------------------------------------------------------------ the warning


def steps(usage, code, count):
    """The warnings that ``count`` optimiser steps with this code bring."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(count):
            usage.see(code)
            usage.update()
    return [str(each.message) for each in caught if each.category is CollapseWarning]


def test_a_collapse_is_told_once_at_the_end_of_the_window():
    usage = codes((40,), window=10)
    assert steps(usage, chosen([3], [5]), 9) == []
    (message,) = steps(usage, chosen([3], [5]), 1)
    assert message.startswith(
        "latent it has collapsed: 5% of its codes in use over the last 10 steps. Try fewer codes"
    )
    assert steps(usage, chosen([3]), 50) == []


def test_a_collapse_that_comes_late_is_told_too():
    edge = codes((10,), window=5)
    assert steps(edge, chosen([0]), 20) == []  # 10 %: at the floor, not under it
    late = codes((11,), window=5)
    assert steps(late, chosen(*[[i] for i in range(11)]), 7) == []
    assert len(steps(late, chosen([0]), 8)) == 1


def test_a_latent_in_use_is_left_in_peace():
    assert steps(codes((4, 2), window=2), chosen([0, 0], [1, 1]), 20) == []
    assert steps(dims(2, window=2), vectors(torch.randn(9, 1, 2)), 20) == []


def test_the_floor_can_be_set():
    assert len(steps(codes((4,), window=2, floor=0.9), chosen([0], [1]), 2)) == 1


@pytest.mark.parametrize(
    ("latent", "code", "says"),
    [
        (Binary(8), chosen([0] * 8), "0% of its bits in use.*entropy="),
        (OneHot(20), chosen([0]), "5% of its codes in use.*beta"),
        (
            Gaussian(4),
            vectors(torch.randn(9, 1, 4), mean=torch.zeros(9, 1, 4)),
            "0% of its dimensions.*free_bits=",
        ),
        (Plain(in_dim=3, out_dim=3), vectors(torch.ones(9, 1, 3)), "0% of its dimensions.*fewer dimensions"),
    ],
)
def test_it_says_what_to_try(latent, code, says):
    usage = Usage(latent, "latent it", window=1)
    usage.see(code)
    with pytest.warns(CollapseWarning, match=says):
        usage.update()


def test_a_gaussian_whose_posterior_is_the_prior_has_collapsed():
    torch.manual_seed(0)
    latent = Gaussian(8).train()
    usage = Usage(latent, "latent it", window=4)
    for _ in range(3):
        usage.see(latent(Features(x=torch.zeros(32, 1, 16))))  # every mean is the same: the draws alone vary
        usage.update()
    assert usage.value() == 0
    usage.see(latent(Features(x=torch.randn(32, 1, 16))))
    assert usage.value() == 1


@pytest.mark.parametrize("latent", ["gaussian(dim=4)", "binary(bits=4)", "one-hot(classes=40)"])
def test_a_model_tells_of_its_latents_usage_and_collapse(latent):
    model = build(data=VECTORS, encoder="mlp(widths=(8,))", latent=latent, decoder="mlp(widths=(8,))").train()
    path = model.factors["code"]
    torch.nn.init.zeros_(path.adapter.weight)
    torch.nn.init.constant_(path.adapter.bias, 9.0)  # every example has the same code
    path.adapter.bias.data[3] = 99.0
    path.usage = Usage(path.latent, path.usage.name, window=3)
    for step in range(3):
        losses = model(random_batch(VECTORS, 16, seed=step))
        assert losses.metrics["usage"] < 0.1
        if step < 2:
            model.update()
    name = latent.partition("(")[0]
    with pytest.warns(CollapseWarning, match=f"^latent reprkit/{name} of factor code has collapsed"):
        model.update()


# ------------------------------------------------------------------------ ranks


def both_kinds(rank):
    """Usage of codes and of dimensions after some steps on this rank's rows, and the warnings it heard."""
    size = distributed.world_size()
    generator = torch.Generator().manual_seed(1)
    one, other, dead = codes((50,), window=3), dims(6, active_variance=0.5), codes((50,), window=2)
    values, heard = [], []
    for _ in range(5):
        indices = torch.randint(50, (8, 3, 1), generator=generator)
        z = (
            torch.randn(8, 3, 6, generator=generator) * torch.linspace(0.3, 3.0, 6)
            + torch.arange(8.0)[:, None, None] / 4
        )
        mask = torch.rand(8, 3, generator=generator) < 0.7
        rows = slice(rank * 8 // size, (rank + 1) * 8 // size)
        one.see(Code(z=z[rows], indices=indices[rows], mask=mask[rows]))
        other.see(Code(z=z[rows] / 3, mask=mask[rows]))
        one.update()
        other.update()
        heard += steps(dead, chosen([0]), 1)
        values.append((float(one.value()), float(other.value()), other.moments.sum(0)))
    return values, heard


@pytest.mark.ranks
def test_two_ranks_see_what_one_process_sees_and_one_of_them_warns():
    (first, heard), (second, silence) = together(2, both_kinds)
    whole, _ = both_kinds(0)
    assert 0 < whole[0][1] < 1, "the threshold must lie among the variances"
    for a, b, c in zip(first, second, whole, strict=True):
        assert a[:2] == b[:2] == c[:2]
        torch.testing.assert_close(a[2], c[2], rtol=1e-6, atol=1e-6)
    assert len(heard) == 1
    assert silence == []
