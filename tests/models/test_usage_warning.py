"""The warning of a collapse; usage and warning over ranks."""

import warnings

import pytest
import torch
from usage_helpers import Plain, chosen, codes, dims, vectors

from reprkit.latents.binary import Binary
from reprkit.latents.gaussian import Gaussian
from reprkit.latents.one_hot import OneHot
from reprkit.latents.rounded import Rounded
from reprkit.models.build import build
from reprkit.models.usage import CollapseWarning, Usage
from reprkit.testing.pool import together
from reprkit.testing.sample_data import VECTORS, random_batch
from reprkit.types import Code, Features
from reprkit.utils import collectives

# ------------------------------------------------------------------------ the warning


def steps(usage, code, count):
    """Return the warnings of ``count`` optimizer steps with this code."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(count):
            usage.observe(code)
            usage.update()
    return [str(each.message) for each in caught if each.category is CollapseWarning]


def test_a_collapse_warns_once_at_the_end_of_the_window():
    usage = codes((40,), window=10)
    assert steps(usage, chosen([3], [5]), 9) == []
    (message,) = steps(usage, chosen([3], [5]), 1)
    assert message.startswith(
        "latent it has collapsed: 5% of its codes in use over the last 10 steps. Try fewer codes"
    )
    assert steps(usage, chosen([3]), 50) == []


def test_a_late_collapse_warns():
    edge = codes((10,), window=5)
    assert steps(edge, chosen([0]), 20) == []  # 10 %: at the floor, not under it
    late = codes((11,), window=5)
    assert steps(late, chosen(*[[i] for i in range(11)]), 7) == []
    assert len(steps(late, chosen([0]), 8)) == 1


def test_a_latent_in_use_does_not_warn():
    assert steps(codes((4, 2), window=2), chosen([0, 0], [1, 1]), 20) == []
    assert steps(dims(2, window=2), vectors(torch.randn(9, 1, 2)), 20) == []


def test_steps_before_the_first_view_do_not_count():
    """An objective may train a latent for a while without a code of it, as the pre-training of a generator of words does."""
    usage = codes((40,), window=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(25):
            usage.update()
    assert steps(usage, chosen([3]), 9) == []
    assert len(steps(usage, chosen([3]), 1)) == 1


def test_the_floor_can_be_set():
    assert len(steps(codes((4,), window=2, floor=0.9), chosen([0], [1]), 2)) == 1


@pytest.mark.parametrize(("floor", "heard"), [(0.0, 0), (0.25, 0), (0.3, 1)])
def test_a_latent_sets_the_floor_or_turns_the_warning_off(floor, heard):
    latent = Plain(in_dim=1, out_dim=1, vocab=(4,))
    latent.collapse_floor = floor
    assert len(steps(Usage(latent, "latent it", window=2), chosen([0]), 2)) == heard


def test_whole_numbers_with_few_values_in_use_do_not_warn():
    latent = Rounded(2, limit=31)
    assert steps(Usage(latent, "latent it", window=2), chosen([31, 30], [30, 31]), 2) == []


@pytest.mark.parametrize(
    ("latent", "code", "says"),
    [
        (Binary(8), chosen([0] * 8), "0% of its bits in use.*entropy="),
        (OneHot(20), chosen([0]), "5% of its codes in use.*entropy="),
        (
            Gaussian(4),
            vectors(torch.randn(9, 1, 4), mean=torch.zeros(9, 1, 4)),
            "0% of its dimensions.*free_bits=",
        ),
        (Plain(in_dim=3, out_dim=3), vectors(torch.ones(9, 1, 3)), "0% of its dimensions.*fewer dimensions"),
    ],
)
def test_the_warning_says_what_to_try(latent, code, says):
    usage = Usage(latent, "latent it", window=1)
    usage.observe(code)
    with pytest.warns(CollapseWarning, match=says):
        usage.update()


def test_a_gaussian_whose_posterior_is_the_prior_has_collapsed():
    torch.manual_seed(0)
    latent = Gaussian(8).train()
    usage = Usage(latent, "latent it", window=4)
    for _ in range(3):
        usage.observe(
            latent(Features(x=torch.zeros(32, 1, 16)))
        )  # every mean is the same: the draws alone vary
        usage.update()
    assert usage.value() == 0
    usage.observe(latent(Features(x=torch.randn(32, 1, 16))))
    assert usage.value() == 1


@pytest.mark.parametrize("latent", ["gaussian(dim=4)", "binary(bits=4)", "one-hot(classes=40)"])
def test_a_model_reports_usage_and_warns_of_a_collapse(latent):
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
    size = collectives.world_size()
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
        one.observe(Code(z=z[rows], indices=indices[rows], mask=mask[rows]))
        other.observe(Code(z=z[rows] / 3, mask=mask[rows]))
        one.update()
        other.update()
        heard += steps(dead, chosen([0]), 1)
        values.append((float(one.value()), float(other.value()), other.moments.sum(0)))
    return values, heard


@pytest.mark.slow
@pytest.mark.ranks
def test_two_ranks_equal_one_process_and_one_of_them_warns():
    (first, heard), (second, silence) = together(2, both_kinds)
    whole, _ = both_kinds(0)
    assert 0 < whole[0][1] < 1, "the threshold must lie among the variances"
    for a, b, c in zip(first, second, whole, strict=True):
        assert a[:2] == b[:2] == c[:2]
        torch.testing.assert_close(a[2], c[2], rtol=1e-6, atol=1e-6)
    assert len(heard) == 1
    assert silence == []
