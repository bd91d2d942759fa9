"""OneHot against torch.distributions and torch's own Gumbel-softmax."""

from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from one_hots import CLASSES, GROUPS, MASK, features, latent, logits
from torch.distributions import Categorical, kl_divergence

from reprkit.latents.one_hot import Method
from reprkit.types import Features

METHODS = get_args(Method)
DRAWING = [method for method in METHODS if method != "argmax"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mask", [None, MASK])
def test_kl_and_log_prob_match_torch_distributions(method, training, mask):
    given = features(mask=mask)
    torch.manual_seed(1)
    code = latent(method=method).train(training)(given)
    q, uniform = Categorical(logits=logits(given.x)), Categorical(torch.ones(5, 3, GROUPS, CLASSES))
    valid = torch.ones(5, 3) if mask is None else mask.float()
    torch.testing.assert_close(code.losses["kl"], (kl_divergence(q, uniform).sum(-1) * valid).sum(1).mean())
    torch.testing.assert_close(code.log_prob, q.log_prob(code.indices).sum(-1) * valid)


def test_gradients_of_kl_and_log_prob_match_torch_distributions():
    x = features().x.requires_grad_()
    torch.manual_seed(1)
    code = latent().train()(Features(x=x))
    q, uniform = Categorical(logits=logits(x)), Categorical(torch.ones(5, 3, GROUPS, CLASSES))
    expected = kl_divergence(q, uniform).sum() / 5, q.log_prob(code.indices).sum()
    for found, reference in zip((code.losses["kl"], code.log_prob.sum()), expected, strict=True):
        (grad,) = torch.autograd.grad(found, x, retain_graph=True)
        (slope,) = torch.autograd.grad(reference, x, retain_graph=True)
        torch.testing.assert_close(grad, slope)


@pytest.mark.parametrize(("method", "hard"), [("gumbel", False), ("straight-through-gumbel", True)])
def test_gumbel_softmax_matches_torch_with_equal_noise(method, hard):
    given = features()
    x = given.x.clone().requires_grad_()
    weight = torch.randn(5, 3, CLASSES * GROUPS)
    torch.manual_seed(7)
    expected = F.gumbel_softmax(logits(x), tau=0.7, hard=hard).flatten(2)
    (slope,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.manual_seed(7)
    code = latent(method=method, temperature=0.7).train()(Features(x=x))
    (grad,) = torch.autograd.grad((code.z * weight).sum(), x)
    torch.testing.assert_close(code.z, expected)
    torch.testing.assert_close(grad, slope, atol=1e-5, rtol=1e-4)
    assert torch.equal(code.indices, expected.unflatten(-1, (GROUPS, CLASSES)).argmax(-1))


def test_straight_through_has_the_gradient_of_the_probabilities():
    x = features().x.requires_grad_()
    weight = torch.randn(5, 3, CLASSES * GROUPS)
    (expected,) = torch.autograd.grad((logits(x).softmax(-1).flatten(2) * weight).sum(), x)
    for training, method in ((True, "straight-through"), (False, "straight-through"), (True, "argmax")):
        code = latent(method=method).train(training)(Features(x=x))
        (grad,) = torch.autograd.grad((code.z * weight).sum(), x)
        torch.testing.assert_close(grad, expected)
    code = latent().train()(Features(x=x))
    (grad,) = torch.autograd.grad((code.mean * weight).sum(), x)
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("method", DRAWING)
def test_draws_have_the_probabilities_of_the_classes(method):
    torch.manual_seed(0)
    given = features(b=1, n=1)
    many = Features(x=given.x.expand(20_000, 1, CLASSES * GROUPS))
    code = latent(method=method).train()(many)
    shares = F.one_hot(code.indices, CLASSES).float().mean(0)
    torch.testing.assert_close(shares[0], logits(given.x).softmax(-1)[0, 0], atol=0.015, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_evaluation_takes_the_largest_and_training_knows_it_as_the_mean(method):
    given, it = features(), latent(method=method)
    largest = F.one_hot(logits(given.x).argmax(-1), CLASSES).flatten(2).float()
    code = it.eval()(given)
    assert torch.equal(code.z, largest)
    assert code.mean is None
    assert code.indices.dtype == torch.int64
    trained = it.train()(given)
    assert torch.equal(trained.z if trained.mean is None else trained.mean, largest)


@pytest.mark.parametrize("method", ["straight-through", "argmax", "straight-through-gumbel"])
def test_hard_codes_are_exactly_one_hot_and_stand_for_their_index(method):
    code = latent(method=method).train()(features(b=100))
    assert sorted(code.z.unique().tolist()) == [0.0, 1.0]
    assert torch.equal(latent().embed(code.indices), code.z)


def test_soft_codes_are_distributions():
    code = latent(method="gumbel").train()(features(b=100))
    torch.testing.assert_close(code.z.unflatten(-1, (GROUPS, CLASSES)).sum(-1), torch.ones(100, 3, GROUPS))
    assert ((code.z > 0.01) & (code.z < 0.99)).any()
