"""Diagnostics warn once, with advice, and are in the run's record and on its page."""

import math
import warnings

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.models.usage import CollapseWarning
from reprkit.runs.reader import read_record
from reprkit.training.monitor.diagnostics import (
    NormMonitor,
    RankMonitor,
    TrainingHealthWarning,
    centered_effective_rank,
    effective_rank_of_field,
)


def make(digits, latent="continuous(dim=8)"):
    return rk.build(data=digits, encoder="mlp(widths=(16,))", latent=latent, decoder="mlp(widths=(16,))")


def train(model, data, *, spoil=None, **options):
    for step in rk.loop(model, data, **{"steps": 200, "batch": 32, "lr": 1e-3, "log_every": 0, **options}):
        losses = step.model(step.batch)
        step.backward(losses.total * (1 if spoil is None else spoil(step.index)))
        step.update()


def caught(category, *arguments, **options):
    """What was warned of while training."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        train(*arguments, **options)
    return [str(each.message) for each in found if issubclass(each.category, category)]


# ------------------------------------------------------------------ the measures


def test_effective_rank_is_the_entropy_of_the_singular_values():
    z = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [9.0, 5, 3, 1, 0.1, 0.01]
    )
    values = np.linalg.svd((z - z.mean(0)).double().numpy(), compute_uv=False)
    share = values / values.sum()
    assert centered_effective_rank(z) == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-6)
    assert centered_effective_rank(z.T + 3.0) == pytest.approx(centered_effective_rank(z.T), rel=1e-6), (
        "an offset tells nothing"
    )
    line = torch.arange(20.0)[:, None] * torch.ones(1, 5)
    assert centered_effective_rank(line) == pytest.approx(1.0, abs=1e-6)
    assert centered_effective_rank(torch.ones(20, 5) * 3.7) == 0.0
    axes = torch.cat([torch.eye(4), -torch.eye(4)])
    assert centered_effective_rank(axes) == pytest.approx(4.0)


def test_low_rank_is_reported_once_after_several_checks():
    generator = torch.Generator().manual_seed(0)
    full = torch.randn(64, 2, 16, generator=generator)
    flat = torch.randn(64, 2, 1, generator=generator) * torch.ones(16)
    seen = RankMonitor()
    found = [seen.update(z, None) for z in (flat, flat, full, flat, flat, flat, flat)]
    assert [each is not None for each in found] == [False] * 5 + [True, False]
    rank, width = found[5]
    assert rank == pytest.approx(1.0, abs=1e-4)
    assert width == 16
    mask = torch.arange(2).expand(64, 2) < 1
    hidden = torch.where(mask[..., None], flat, full)
    masked = RankMonitor()
    assert [masked.update(hidden, mask) is not None for _ in range(3)] == [False, False, True], (
        "padding does not count"
    )
    assert RankMonitor().update(full[..., :3], None) is None, "of three dimensions there is little to lose"


def test_an_exploding_norm_is_reported_after_several_steps():
    generator = np.random.default_rng(0)
    usual = [float(each) for each in generator.lognormal(0, 0.5, 50)]
    seen = NormMonitor()
    assert [seen.update(each) for each in usual].count(None) == 50
    assert [seen.update(each) for each in (1e3, 1e3, 1.0, 1e3, 1e3)] == [None] * 5, (
        "two odd batches are no alarm"
    )
    again = NormMonitor()
    again.load_state_dict(seen.state_dict())
    for each in (seen, again):
        times = each.update(2e3)
        assert times == pytest.approx(2e3 / np.median(usual[:40]), rel=0.3)
        assert each.update(1e6) is None, "once"


def test_a_norm_that_falls_is_no_explosion():
    usual = [1.0] * 40
    seen = NormMonitor()
    falling = [1e6 * 0.8**step for step in range(10)]
    assert [seen.update(each) for each in usual + falling].count(None) == 50
    again = NormMonitor()
    again.load_state_dict(seen.state_dict())
    for each in (seen, again):
        assert [each.update(norm) is not None for norm in (2e5, 3e5, 4e5)] == [True, False, False]


def test_the_rank_of_the_input_is_that_of_its_tokens():
    line = torch.linspace(0, 1, 40)[:, None, None, None]
    image = rk.Field(kind="image", shape=(4, 4, 1))
    assert effective_rank_of_field(line.expand(40, 4, 4, 1), image, (1, 1), None) == pytest.approx(
        1.0, abs=1e-3
    )
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(400, 4, 4, 1, generator=generator)
    assert effective_rank_of_field(noise, image, (1, 1), None) > 12
    assert 3 < effective_rank_of_field(noise, image, (2, 2), None) <= 4
    words = rk.Field(kind="tokens", shape=(3,), vocab=2)
    assert effective_rank_of_field(torch.zeros(9, 3, dtype=torch.int64), words, (3,), None) == 0.0
    many = rk.Field(kind="tokens", shape=(3,), vocab=9999)
    assert effective_rank_of_field(torch.zeros(9, 3, dtype=torch.int64), many, (3,), None) == math.inf
    steps = rk.Field(kind="sequence", shape=(3, 1))
    assert effective_rank_of_field(torch.zeros(9, 3, 1), steps, (2,), None) == math.inf


# ------------------------------------------------------------------ in a run


@pytest.mark.slow
def test_codes_of_an_input_of_low_rank_are_not_warned_of():
    """The data is a line in six dimensions, so codes that lie on a line are all there is to learn."""
    line = torch.linspace(-1, 1, 400)[:, None] * torch.tensor([1.0, 2, 3, 4, 5, 6])
    data = rk.data.Arrays({"x": line.numpy()})
    model = rk.build(data=data, encoder="mlp(width=16)", latent="continuous(dim=8)", decoder="mlp(width=16)")
    assert caught(TrainingHealthWarning, model, data, steps=250) == []


def test_an_exploding_norm_is_warned_of_once(digits, tmp_path):
    told = caught(
        TrainingHealthWarning,
        make(digits),
        digits,
        spoil=lambda step: 1e4 if step >= 60 else 1,
        out=tmp_path,
        optimizer="sgd",
        lr=1e-9,
    )
    assert len(told) == 1
    assert told[0].startswith("the gradient's norm has exploded: ")
    assert " at step 62, " in told[0]
    assert "Try clip=1.0" in told[0]
    (kept,) = read_record(tmp_path)["warnings"]
    assert (kept["step"], kept["text"]) == (62, told[0])
    page = rk.report(tmp_path).read_text()
    assert "Warnings" in page
    assert "step 62: the gradient&#x27;s norm has exploded" in page


@pytest.mark.slow
def test_low_rank_codes_are_warned_of_once(digits, tmp_path):
    model = make(digits)
    weight = model.factors["code"].adapter.weight
    with torch.no_grad():
        weight.copy_(weight[:1].expand_as(weight))  # every dimension is the same one
    options = {"out": tmp_path, "optimizer": "sgd", "lr": 1e-12, "steps": 250}
    told = caught(TrainingHealthWarning, model, digits, **options)
    assert len(told) == 1
    assert told[0].startswith(
        "latent reprkit/continuous of factor code has a low rank: the codes of a batch vary in 1.0 of 8 dimensions"
    )
    assert "Try a lower lr=" in told[0]
    (kept,) = read_record(tmp_path)["warnings"]
    assert (kept["step"], kept["text"]) == (149, told[0]), "the third look"
    assert caught(TrainingHealthWarning, model, digits, **{**options, "resume": True, "steps": 450}) == []
    assert len(read_record(tmp_path)["warnings"]) == 1


@pytest.mark.slow
def test_a_collapse_is_recorded(digits, tmp_path):
    model = make(digits, "vq(codes=64, dim=4, revive=0.0)")
    with torch.no_grad():
        model.factors["code"].adapter.weight.zero_()
    told = caught(CollapseWarning, model, digits, out=tmp_path, optimizer="sgd", lr=1e-12, steps=200)
    assert len(told) == 1
    (kept,) = read_record(tmp_path)["warnings"]
    assert kept["text"] == told[0]
    assert "latent reprkit/vq of factor code has collapsed" in kept["text"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "latent", ["continuous(dim=32)", "gaussian(dim=8)", "vq(codes=16, dim=2, codebooks=4)"]
)
def test_a_healthy_run_has_no_warnings(digits, tmp_path, latent):
    assert caught(UserWarning, make(digits, latent), digits, out=tmp_path, lr=2e-3, batch=64, steps=150) == []
    assert "warnings" not in read_record(tmp_path)
