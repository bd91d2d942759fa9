"""For each check of a likelihood, a wrong likelihood that fails this check only."""

import pytest
import torch
from catching import titles
from torch.distributions import Normal

from reprkit.interfaces import Likelihood
from reprkit.likelihoods.bernoulli import Bernoulli
from reprkit.likelihoods.mixed import Mixed
from reprkit.testing import LikelihoodConformance
from reprkit.testing.kit import failed_checks
from reprkit.testing.sample_data import IMAGES, TABLES
from reprkit.utils.precision import at_least_float32


class Good(Likelihood):
    """A normal distribution with a predicted scale, and a learned shift of the mean."""

    density = True

    def __init__(self, data=None):
        super().__init__()

    def outputs(self):
        return {"linear": 1, "log_scale": 1}

    def constants(self, values):
        return {"shift": torch.zeros(values)}

    def params(self, outputs, constants):
        mean = outputs["linear"].squeeze(-1) + constants["shift"]
        return {"mean": mean, "log_scale": torch.tanh(outputs["log_scale"].squeeze(-1))}

    def normal(self, params):
        return Normal(
            at_least_float32(params["mean"]), at_least_float32(params["log_scale"]).exp(), validate_args=False
        )

    def nll(self, params, target):
        return -self.normal(params).log_prob(target)

    def point(self, params):
        return params["mean"]

    def sample(self, params, generator=None):
        normal = self.normal(params)
        return normal.loc + normal.scale * torch.randn(
            normal.loc.shape, generator=generator, device=normal.loc.device
        )

    def temper(self, params, temperature):
        return {**params, "log_scale": params["log_scale"] + torch.tensor(float(temperature)).log()}

    def log_mass(self, params, low, high):
        normal = self.normal({name: value.double() for name, value in params.items()})
        return (normal.cdf(high.double()) - normal.cdf(low.double())).log()


class DoublePoint(Good):
    def point(self, params):
        return params["mean"].double()


class WrongConstant(Bernoulli):
    def nll(self, params, target):
        return super().nll(params, target) - 0.5


class WrongIntervals(Good):
    def log_mass(self, params, low, high):
        return super().log_mass({**params, "mean": params["mean"] + 0.5}, low, high)


class Shifted(Good):
    """Another distribution than its reference, and consistent otherwise."""

    def params(self, outputs, constants):
        return {
            **super().params(outputs, constants),
            "by": torch.full((1, 1, 1), 0.5, device=outputs["linear"].device),
        }

    def normal(self, params):
        return super().normal(
            {**params, "mean": at_least_float32(params["mean"]) + at_least_float32(params["by"])}
        )

    def point(self, params):
        return params["mean"] + params["by"]


class WideSamples(Good):
    def sample(self, params, generator=None):
        return super().sample({**params, "log_scale": params["log_scale"] + 0.4}, generator)


class OutlyingPoint(Good):
    def point(self, params):
        return params["mean"] + 3 * params["log_scale"].exp()


class Overflows(Good):
    def nll(self, params, target):
        return super().nll(params, target) + 0 * params["mean"].exp()


class IgnoresTheTemperature(Good):
    def temper(self, params, temperature):
        return dict(params)


class IgnoresTheGenerator(Good):
    def sample(self, params, generator=None):
        return super().sample(params)


class HalfPrecision(Good):
    def nll(self, params, target):
        nll = super().nll(params, target)
        return nll.bfloat16() if params["mean"].dtype == torch.bfloat16 else nll


class MixesTokens(Bernoulli):
    def nll(self, params, target):
        return super().nll(params, target) + (target - target.mean(1, keepdim=True)).square().mean()


class WrongColumn(Mixed):
    def nll(self, params, target):
        return super().nll(params, target) + torch.where(self.numbers, 0.0, 0.5 * target)


class Case(LikelihoodConformance):
    wrong = "Good"

    def make(self):
        return globals()[self.wrong](data=self.data)

    def reference(self, params):
        if self.wrong in ("WrongConstant", "MixesTokens", "WrongColumn"):
            return None
        return Normal(params["mean"], params["log_scale"].exp())


WRONG = {
    "shapes and types": ("DoublePoint", "the point estimate is torch.float64"),
    "probabilities sum to one": ("WrongConstant", "the sum of the probabilities of an element"),
    "intervals agree with the density": ("WrongIntervals", "log_mass of a short interval"),
    "nll equals the reference": ("Shifted", "nll, and -log_prob of the reference"),
    "samples agree with the loss": ("WideSamples", "sample and nll are different distributions"),
    "point estimate is central": ("OutlyingPoint", "another sample is closer"),
    "gradients are finite": ("Overflows", "is not finite for outputs of size 60"),
    "temperature narrows samples": ("IgnoresTheTemperature", "at temperature 0 samples differ"),
    "draws depend on the generator": ("IgnoresTheGenerator", "two samples under equal generators"),
    "half precision is computed in full": (
        "HalfPrecision",
        "the loss of bfloat16 parameters is torch.bfloat16",
    ),
    "tokens are independent": ("MixesTokens", "a token's loss, with other tokens beside it"),
}


def case(name):
    made = Case()
    made.wrong, made.data = name, IMAGES
    return made


def test_a_correct_likelihood_passes_every_check():
    assert failed_checks(case("Good")) == {}


@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_likelihood_fails_one_check(check):
    name, reason = WRONG[check]
    found = failed_checks(case(name))
    assert set(found) == {check}, found
    assert reason in found[check]


def test_a_wrong_sum_of_a_table_s_column_is_caught():
    made = case("WrongColumn")
    made.data = TABLES
    found = failed_checks(made)
    assert set(found) == {"probabilities sum to one"}, found
    assert "the sum of the probabilities of column trade" in found["probabilities sum to one"]


def test_every_check_has_a_wrong_likelihood():
    assert set(WRONG) == titles(LikelihoodConformance)
