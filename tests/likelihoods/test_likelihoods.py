"""Likelihoods against torch.distributions and SciPy, and what conformance does not ask: extremes, temperature, the head."""

import math

import pytest
import torch
from scipy import stats
from torch import distributions

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.decoders.head import Head
from reprkit.errors import PartArgumentError
from reprkit.likelihoods.bernoulli import Bernoulli
from reprkit.likelihoods.categorical import Categorical
from reprkit.likelihoods.gaussian import Gaussian
from reprkit.likelihoods.laplace import Laplace
from reprkit.likelihoods.logistic_mixture import LogisticMixture
from reprkit.testing import DecoderConformance, LikelihoodConformance
from reprkit.testing.kit import failed_checks
from reprkit.testing.sample_data import IMAGES, SEQUENCES, TOKENS, VECTORS

GRAY = Field(kind="image", shape=(4, 4, 1), range=(0, 1))


class TestGaussian(LikelihoodConformance):
    part, data = "gaussian", VECTORS

    def reference(self, params):
        return distributions.Normal(params["mean"], params["log_scale"].exp())


class TestGaussianEach(TestGaussian):
    part, data = "gaussian(scale='each')", SEQUENCES


class TestLaplace(LikelihoodConformance):
    part, data = "laplace", VECTORS

    def reference(self, params):
        return distributions.Laplace(params["mean"], params["log_scale"].exp())


class TestLaplaceEach(TestLaplace):
    part, data = "laplace(scale='each')", IMAGES


class TestLaplaceFixed(TestLaplace):
    part, data = "laplace(scale=0.5)", SEQUENCES


class TestBernoulli(LikelihoodConformance):
    part, data = "bernoulli", Signature({"x": Field(kind="vector", shape=(6,), range=(0, 1), vocab=2)})

    def reference(self, params):
        return distributions.Bernoulli(logits=params["logits"])


class TestCategorical(LikelihoodConformance):
    part, data = "categorical", TOKENS

    def reference(self, params):
        return distributions.Categorical(logits=params["logits"])


class TestLogisticMixture(LikelihoodConformance):
    part, data = "logistic-mixture(components=3, levels=17)", IMAGES


def test_a_decoder_with_a_logistic_mixture_conforms():
    case = DecoderConformance()
    case.part, case.data = "conv(width=7, depth=1, blocks=0, likelihood='logistic-mixture(levels=9)')", IMAGES
    assert failed_checks(case, ranks=False) == {}


def logistic_by_hand(params, value, low, high, levels):
    """The probability of the bin around one value, in double precision by SciPy's logistic distribution."""
    weights = torch.softmax(params["logits"].double(), -1).numpy()
    mean, scale = params["mean"].double().numpy(), params["log_scale"].double().exp().numpy()
    half = 0.5 * (high - low) / (levels - 1)
    upper = 1.0 if value >= high - half else stats.logistic.cdf(value + half, mean, scale)
    lower = 0.0 if value <= low + half else stats.logistic.cdf(value - half, mean, scale)
    return float((weights * (upper - lower)).sum())


def test_the_logistic_mixture_equals_scipy():
    data = Signature({"x": Field(kind="vector", shape=(1,), range=(-1, 1))})
    likelihood = LogisticMixture(3, levels=256, data=data)
    torch.manual_seed(0)
    params = {name: torch.randn(1, 1, 1, 3) for name in ("logits", "mean")}
    params["log_scale"] = torch.randn(1, 1, 1, 3) - 2
    for level in (0, 1, 100, 200, 254, 255):
        value = -1 + 2 * level / 255
        found = likelihood.nll(params, torch.full((1, 1, 1), value)).item()
        assert found == pytest.approx(-math.log(logistic_by_hand(params, value, -1, 1, 256)), rel=1e-4)


def test_a_gray_level_far_from_every_component_has_a_finite_probability_and_gradient():
    data = Signature({"x": Field(kind="vector", shape=(1,), range=(0, 255))})
    likelihood = LogisticMixture(2, data=data)
    mean = torch.full((1, 1, 1, 2), 250.0, requires_grad=True)
    log_scale = torch.full((1, 1, 1, 2), -2.0, requires_grad=True)
    params = {"logits": torch.zeros(1, 1, 1, 2), "mean": mean, "log_scale": log_scale}
    nll = likelihood.nll(params, torch.full((1, 1, 1), 3.0))
    # The tail of a logistic falls by 1 / scale nats for each unit: (250 - 3.5) / exp(-2).
    assert nll.item() == pytest.approx(246.5 * math.exp(2), rel=1e-3)
    nll.sum().backward()
    assert mean.grad.isfinite().all()
    assert mean.grad.sum().item() == pytest.approx(math.exp(2), rel=1e-3)
    assert log_scale.grad.isfinite().all()


def test_logistic_samples_are_levels():
    data = Signature({"x": GRAY})
    likelihood = LogisticMixture(levels=5, data=data)
    shape = torch.Size((50, 16, 1))
    params = likelihood.params({"linear": torch.randn(*shape, 15)}, {})
    values = likelihood.sample(params).unique()
    torch.testing.assert_close(values, torch.tensor([0, 0.25, 0.5, 0.75, 1.0]))


def test_one_scale_for_all_elements_broadcasts():
    params = {"mean": torch.randn(2, 3, 4), "log_scale": torch.full((1, 1, 1), -1.3)}
    target = torch.randn(2, 3, 4)
    expected = -distributions.Normal(params["mean"], math.exp(-1.3)).log_prob(target)
    torch.testing.assert_close(Gaussian().nll(params, target), expected)
    assert Gaussian().sample(params).shape == (2, 3, 4)


def test_gray_values_give_the_cross_entropy():
    logits, target = torch.randn(2, 1, 3), torch.rand(2, 1, 3)
    chance = torch.sigmoid(logits)
    expected = -(target * chance.log() + (1 - target) * (1 - chance).log())
    torch.testing.assert_close(Bernoulli().nll({"logits": logits}, target), expected)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Categorical()])
def test_extreme_logits_stay_finite(likelihood):
    logits = torch.tensor([[[500.0, -500.0]]])
    target = torch.tensor([[[0.0, 1.0]]])
    if likelihood.discrete:
        logits, target = logits.unsqueeze(2), torch.tensor([[[1]]])
    logits.requires_grad_()
    found = likelihood.nll({"logits": logits}, target)
    found.sum().backward()
    assert found.min() >= 500
    assert found.isfinite().all()
    assert logits.grad.isfinite().all()


def test_draws_follow_the_distribution():
    many = (20_000, 1, 1)
    for likelihood, deviation in ((Gaussian(), 0.5), (Laplace(), 0.5 * math.sqrt(2))):
        params = {"mean": torch.full(many, 2.0), "log_scale": torch.full((1, 1, 1), math.log(0.5))}
        values = likelihood.sample(params)
        assert abs(float(values.mean()) - 2) < 0.02
        assert abs(float(values.std()) - deviation) < 0.02
    ones = Bernoulli().sample({"logits": torch.full(many, math.log(0.3 / 0.7))})
    assert set(ones.unique().tolist()) == {0.0, 1.0}
    assert abs(float(ones.mean()) - 0.3) < 0.02
    chances = torch.tensor([0.1, 0.2, 0.7])
    symbols = Categorical().sample({"logits": chances.log().expand(*many, 3)})
    assert symbols.shape == many
    shares = symbols.flatten().bincount(minlength=3) / many[0]
    torch.testing.assert_close(shares, chances, atol=0.02, rtol=0)


def test_temperature_zero_draws_the_most_likely_value():
    mean = torch.randn(3, 4, 5)
    for likelihood in (Gaussian(), Laplace()):
        params = {"mean": mean, "log_scale": torch.zeros(1, 1, 1)}
        assert torch.equal(likelihood.sample(likelihood.temper(params, 0)), mean)
    logits = {"logits": torch.randn(3, 4, 5)}
    assert torch.equal(Bernoulli().sample(Bernoulli().temper(logits, 0)), (logits["logits"] > 0).float())
    assert torch.equal(Categorical().sample(Categorical().temper(logits, 0)), logits["logits"].argmax(-1))


def test_temperature_scales():
    params = {"mean": torch.randn(2, 3, 4), "log_scale": torch.randn(2, 3, 4)}
    torch.testing.assert_close(
        Gaussian().temper(params, 0.5)["log_scale"], params["log_scale"] + math.log(0.5)
    )
    logits = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(Categorical().temper({"logits": logits}, 0.5)["logits"], logits * 2)


@pytest.mark.parametrize(
    "bounds", [(-math.inf, -3.0), (-9.0, -8.9), (-0.4, 0.2), (0.1, 0.5), (30.0, 31.0), (-2.0, math.inf)]
)
def test_the_mass_of_an_interval_equals_scipy(bounds):
    params = {"mean": torch.tensor([[[0.3]]]), "log_scale": torch.tensor([[[-0.2]]])}
    low, high = (torch.full((1, 1, 1), bound) for bound in bounds)
    for likelihood, own in ((Gaussian(), stats.norm), (Laplace(), stats.laplace)):
        side = own(0.3, math.exp(-0.2))
        # In the upper tail by survival functions, whose difference does not cancel.
        mass = (
            side.sf(low.item()) - side.sf(high.item())
            if bounds[0] > 0.3
            else side.cdf(high.item()) - side.cdf(low.item())
        )
        assert likelihood.log_mass(params, low, high).item() == pytest.approx(math.log(mass), rel=1e-4)


def test_a_probability_has_no_mass_of_intervals():
    with pytest.raises(PartArgumentError, match="not a density"):
        Bernoulli().log_mass({}, torch.zeros(1), torch.zeros(1))


@pytest.mark.parametrize(
    ("reference", "field", "word"),
    [
        ("laplace", Field(kind="tokens", shape=(None,), vocab=7), "use categorical"),
        ("logistic-mixture", Field(kind="tokens", shape=(None,), vocab=7), "use categorical"),
        ("logistic-mixture", Field(kind="vector", shape=(3,)), "range of x is not stated"),
        ("logistic-mixture(levels=1)", GRAY, "levels=1 must be an integer from 2"),
        ("laplace(scale=0)", GRAY, "above 0"),
    ],
)
def test_data_and_arguments_that_do_not_fit_are_refused(reference, field, word):
    with pytest.raises(PartArgumentError, match=word):
        rk.create("likelihood", reference, data=Signature({"x": field}))


def test_a_decoder_takes_references_and_instances():
    data = Signature({"x": GRAY})
    for chosen in ("laplace(scale=0.3)", Laplace(0.3, data=data)):
        decoder = rk.create("decoder", "mlp(width=8)", data=data, tokens=1, likelihood=chosen)
        assert type(decoder.head.likelihood) is Laplace
        decoded = decoder(rk.Features(x=torch.randn(2, 1, 8)))
        torch.testing.assert_close(decoded.params["log_scale"], torch.full((1, 1, 1), math.log(0.3)))
        target = torch.rand(2, 1, 16)
        expected = (target - decoded.x).abs().sum(-1) / 0.3 + 16 * math.log(0.6)
        torch.testing.assert_close(decoded.nll(target), expected)


@pytest.mark.parametrize(
    ("likelihood", "scale", "word"),
    [
        ("gaussian(scale=0.5)", 0.3, "give one of them"),
        (Gaussian(), "each", "is an instance"),
        ("logistic-mixture", "each", "has no argument 'scale'"),
        (rk.create("latent", "continuous"), "shared", "Continuous is none"),
    ],
)
def test_a_head_refuses_what_it_would_not_obey(likelihood, scale, word):
    with pytest.raises(rk.ReprkitError, match=word):
        Head(6, 3, field=GRAY, likelihood=likelihood, scale=scale)
