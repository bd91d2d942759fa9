"""OneHot: the effect of its options, indices, masks and extreme values; with one process and with two."""

import math
from typing import get_args

import pytest
import torch
from one_hots import CLASSES, GROUPS, MASK, features, latent

from reprkit.data.padding import length_mask
from reprkit.errors import PartArgumentError
from reprkit.latents.one_hot import CERTAINTY, Method, OneHot
from reprkit.testing.pool import together
from reprkit.types import Features
from reprkit.utils import collectives

METHODS = get_args(Method)

# ------------------------------------------------------------------------ options


def test_argmax_trains_as_it_evaluates():
    given, it = features(), latent(method="argmax")
    first, again, quiet = it.train()(given), it(given), it.eval()(given)
    assert torch.equal(first.z, again.z)
    assert torch.equal(first.z, quiet.z)
    assert first.mean is None


def test_the_temperature_falls_by_a_constant_factor_and_is_saved():
    it = latent(method="gumbel", temperature=2.0, final_temperature=0.5, anneal=4).train()
    seen = []
    for _ in range(6):
        seen.append(float(it(features()).metrics["temperature"]))
        it.update()
    assert seen == pytest.approx([2.0, 2**0.5, 1.0, 0.5**0.5, 0.5, 0.5])
    again = latent(method="gumbel", temperature=2.0, final_temperature=0.5, anneal=4)
    again.load_state_dict(it.state_dict())
    assert again.current_temperature() == pytest.approx(0.5)
    assert latent(anneal=0).current_temperature() == pytest.approx(0.5)
    assert "temperature" not in latent()(features()).metrics, "straight-through has none"


def test_codes_become_harder_as_the_temperature_falls():
    given, it = features(b=200), latent(method="gumbel", final_temperature=0.1, anneal=10).train()
    torch.manual_seed(0)
    warm = it(given).z.square().sum(-1).mean()
    for _ in range(10):
        it.update()
    torch.manual_seed(0)
    assert it(given).z.square().sum(-1).mean() > 1.1 * warm


def test_beta_weights_and_warmup_scales_the_kl():
    assert latent(beta=0.5, entropy=2.0).weights == {"kl": 0.5, "entropy": 2.0}
    it, given = latent(warmup=2), features()
    shares = []
    for _ in range(4):
        code = it(given)
        shares.append(float(code.losses["kl"] / code.metrics["kl"]))
        it.update()
    assert shares == pytest.approx([0, 0.5, 1, 1])


def test_entropy_is_zero_where_classes_are_used_evenly_and_certainly():
    x = 50 * torch.eye(4).repeat(2, 1).unsqueeze(1)  # eight examples, each of four classes twice
    even = OneHot(4).eval()(Features(x=x)).losses["entropy"]
    one = OneHot(4).eval()(Features(x=x[:1].expand(8, 1, 4))).losses["entropy"]
    soft = OneHot(4).eval()(Features(x=torch.zeros(8, 1, 4))).losses["entropy"]
    assert float(even) == 0
    # log(classes) less what chance takes away from eight draws, log(1 + 3 / 8).
    assert float(one) == pytest.approx(math.log(4) - math.log1p(3 / 8))
    assert float(soft) == pytest.approx(float(one) - math.log(4) * (1 - CERTAINTY), abs=1e-6)


def test_entropy_is_on_for_one_group_and_off_for_several():
    assert OneHot(4).weights["entropy"] == 30.0
    assert OneHot(4, groups=2).weights["entropy"] == 0.0
    assert OneHot(4, entropy=2.0, groups=2).weights["entropy"] == 2.0


def test_entropy_counts_valid_tokens_and_is_left_out_at_weight_zero():
    given = features(mask=MASK)
    code = latent(entropy=30.0).eval()(given)
    q = given.x[MASK].unflatten(-1, (GROUPS, CLASSES)).softmax(-1)  # 9 valid tokens of 5 examples
    even = math.log(CLASSES) - math.log1p((CLASSES - 1) / 9)
    used = torch.special.entr(q.mean(0)).sum(-1) - CERTAINTY * torch.special.entr(q).sum(-1).mean(0)
    torch.testing.assert_close(code.losses["entropy"], 9 / 5 * (even - used).clamp(min=0).sum())
    assert "entropy" not in latent(entropy=0.0)(given).losses


def test_one_class_is_left_again():
    """Where all examples have one class, gradients of the loss spread them."""
    torch.manual_seed(0)
    data, rows = torch.randn(64, 1, 6), torch.nn.Linear(6, 5)
    rows.bias.data[2] += 4
    it = OneHot(5).train()
    optimizer = torch.optim.Adam(rows.parameters(), lr=0.05)
    for step in range(100):
        code = it(Features(x=rows(data)))
        if step == 0:
            assert len(code.mean.argmax(-1).unique()) == 1
        optimizer.zero_grad()
        code.losses["entropy"].backward()
        optimizer.step()
    shares = it.eval()(Features(x=rows(data))).z.mean((0, 1))
    assert (shares > 0.1).all()


# ------------------------------------------------------------------------ discrete


def test_bits_are_a_fixed_rate_of_valid_tokens():
    it = OneHot(8, groups=2)
    assert it(features(width=16)).bits.tolist() == [18.0] * 5
    assert it(features(width=16, mask=MASK)).bits.tolist() == [18.0, 6.0, 12.0, 18.0, 0.0]
    assert (it.in_dim, it.out_dim, it.vocab) == (16, 16, (8, 8))


def test_perplexity_is_the_effective_number_of_classes():
    x = torch.zeros(8, 1, 8)
    x[:, 0, 2] = 1  # the first group: always class 2
    x[torch.arange(8), 0, 4 + torch.arange(8) % 4] = 1  # the second: all four alike
    assert OneHot(4, groups=2).eval()(Features(x=x)).metrics["perplexity"] == pytest.approx((1 + 4) / 2)
    mask = torch.arange(8)[:, None] < 2
    masked = OneHot(4, groups=2).eval()(Features(x=x, mask=mask))
    assert masked.metrics["perplexity"] == pytest.approx((1 + 2) / 2)


@pytest.mark.parametrize(("classes", "groups"), [(2, 1), (3, 7), (32, 1)])
@pytest.mark.parametrize("method", METHODS)
def test_embed_reproduces_the_code(classes, groups, method):
    it = OneHot(classes, groups=groups, method=method).eval()
    code = it(features(width=classes * groups, mask=MASK))
    assert code.indices.shape == (5, 3, groups)
    assert torch.equal(it.embed(code.indices), code.z)


@pytest.mark.parametrize(
    ("indices", "says"),
    [
        (torch.zeros(2, 3, 1, dtype=torch.int64), r"shape \(b, n, 2\), not \(2, 3, 1\)"),
        (torch.zeros(2, 3, 2), "whole numbers .* not torch.float32"),
        (torch.full((2, 3, 2), 5), r"\[0, 4\], not 5 to 5"),
    ],
)
def test_invalid_indices_are_refused(indices, says):
    with pytest.raises(PartArgumentError, match=says):
        latent().embed(indices)


def test_the_prior_is_uniform_and_depends_on_the_generator():
    z = latent().prior((5000, 2), torch.Generator().manual_seed(0))
    assert z.shape == (5000, 2, CLASSES * GROUPS)
    torch.testing.assert_close(z.mean((0, 1)), torch.full((CLASSES * GROUPS,), 0.2), atol=0.02, rtol=0)
    assert torch.equal(z, latent().prior((5000, 2), torch.Generator().manual_seed(0)))


# ------------------------------------------------------------------------ robustness


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("training", [True, False])
def test_padding_has_no_effect(method, training):
    it = latent(method=method).train(training)
    results = []
    for filler in (0.0, 1e3, float("nan")):
        x = features().x.masked_fill(~MASK[..., None], filler).requires_grad_()
        torch.manual_seed(0)
        code = it(Features(x=x, mask=MASK))
        ((code.z[MASK] * torch.arange(10.0)).sum() + code.losses["kl"] + code.log_prob.sum()).backward()
        assert (x.grad[~MASK] == 0).all()
        assert (x.grad[MASK] != 0).all()
        found = (code.z[MASK], code.losses["kl"], code.bits, code.log_prob, *code.metrics.values(), x.grad)
        results.append(found)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)
    cut, valid = features().x[1:3], MASK[1:3]
    shorter, longer = Features(x=cut[:, :2], mask=valid[:, :2]), Features(x=cut, mask=valid)
    torch.testing.assert_close(it(shorter).losses, it(longer).losses)
    torch.testing.assert_close(it(shorter).bits, it(longer).bits)


@pytest.mark.parametrize("method", METHODS)
def test_extreme_features_stay_finite_with_a_gradient(method):
    x = torch.tensor([[-1e6, 0.0, 1e6], [40.0, -40.0, 0.0]]).view(2, 1, 3).requires_grad_()
    code = OneHot(3, method=method).train()(Features(x=x))
    (
        code.losses["kl"] + code.losses["entropy"] + code.log_prob.sum() + (code.z * torch.arange(3.0)).sum()
    ).backward()
    assert torch.isfinite(code.losses["kl"])
    assert torch.isfinite(code.z).all()
    assert torch.isfinite(x.grad).all()
    assert code.indices.flatten().tolist() == [2, 0]


def test_without_valid_tokens_results_are_finite():
    code = latent().train()(features(b=1, mask=torch.zeros(1, 3, dtype=torch.bool)))
    assert (float(code.losses["kl"]), float(code.bits), float(code.metrics["perplexity"])) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("method", METHODS)
def test_bf16_features_give_bf16_codes_and_float32_losses(method):
    code = latent(method=method).train()(Features(x=features(n=1).x.bfloat16()))
    assert code.z.dtype == torch.bfloat16
    assert code.mean is None or code.mean.dtype == torch.bfloat16
    assert code.losses["kl"].dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"classes": 1}, "classes=1 must be an integer"),
        ({"groups": 0}, "groups=0 must be an integer"),
        ({"method": "reinforce"}, "method='reinforce' must be 'straight-through', 'argmax', "),
        ({"temperature": 0.0}, "temperature=0.0 must be a number above 0"),
        ({"final_temperature": -1}, "final_temperature"),
        ({"anneal": -1}, "anneal=-1 must be an integer"),
        ({"beta": -1}, "beta"),
        ({"warmup": 0.5}, "warmup=0.5 must be an integer"),
        ({"entropy": -1}, "entropy"),
    ],
)
def test_arguments_are_checked(options, says):
    with pytest.raises(PartArgumentError, match=says):
        OneHot(**options)


# ------------------------------------------------------------------------ ranks


def a_step(rank, method):
    """Code, losses and gradient of one training step on this rank's rows of a joined batch of eight."""
    size = collectives.world_size()
    rows = slice(rank * 8 // size, (rank + 1) * 8 // size)
    given = features(b=8, mask=length_mask(torch.tensor([3, 1, 2, 3, 1, 1, 2, 3]), 3))
    x = given.x[rows].clone().requires_grad_()
    torch.manual_seed(5)
    code = latent(method=method, entropy=30.0).train()(Features(x=x, mask=given.mask[rows]))
    total = code.losses["kl"] + code.losses["entropy"] + (code.z - 0.3).square().sum() / len(x)
    total.backward()
    values = torch.stack([total.detach(), code.metrics["perplexity"], code.losses["kl"].detach()])
    return (
        collectives.gather(code.z),
        collectives.sum_over_ranks(values) / size,
        collectives.gather(x.grad) / size,
    )


def all_steps(rank):
    return [a_step(rank, method) for method in METHODS]


@pytest.mark.ranks
def test_two_ranks_equal_one_process():
    for pair, whole in zip(together(2, all_steps)[1], all_steps(0), strict=True):
        torch.testing.assert_close(pair, whole)
