import math

import pytest
import torch
from scipy.stats import multivariate_normal, norm

import reprkit as rk
from reprkit.data import Tensors
from reprkit.errors import BuildError, PartArgumentError
from reprkit.evaluation.likelihood import discretized_nll
from reprkit.types import Decoded


class Unit(rk.Decoder):
    """The code itself, with unit variance: the model's adapter makes it a linear Gaussian model."""

    def __init__(self, width):
        super().__init__()
        self.in_dim = width

    def forward(self, features, *, teacher=None, length=None):
        params = {"mean": features.x, "log_scale": torch.zeros(1, 1, 1)}
        return Decoded(x=features.x, likelihood="gaussian", params=params, grid=features.grid)


@pytest.fixture(scope="module")
def linear():
    """Factor analysis with two factors of five values, and the marginal that it has in closed form."""
    data = Tensors(
        {"x": torch.randn(40, 5, generator=torch.Generator().manual_seed(1))},
        rk.Signature({"x": rk.Field(kind="vector", shape=(5,))}),
    )
    model = rk.build(data=data, encoder="mlp(widths=(8,))", latent="gaussian(dim=2)", decoder=Unit(5), seed=3)
    torch.manual_seed(0)
    with torch.no_grad():
        adapter = next(iter(model.adapters.values()))
        adapter.weight.normal_()
        adapter.bias.normal_()
        path = next(iter(model.factors.values()))
        path.adapter.bias[2:] = 5.0  # posteriors about as wide as the prior
    weight, bias = adapter.weight.detach().double(), adapter.bias.detach().double()
    exact = multivariate_normal(bias.numpy(), (weight @ weight.T + torch.eye(5)).numpy())
    truth = -exact.logpdf(data.batch(range(40))["x"].double().numpy()).mean()
    return model, data, truth


@pytest.mark.slow
def test_many_samples_approach_the_marginal_likelihood(linear):
    model, data, truth = linear
    found = rk.evaluate(model, data, rk.create("evaluator", "likelihood(samples=3000)"))["likelihood"]
    assert found["nll"] == pytest.approx(truth, abs=0.03)
    assert found["bits_per_dim"] == pytest.approx(found["nll"] / 5 / math.log(2))


def test_more_samples_tighten_the_bound(linear):
    model, data, truth = linear
    few, many = (rk.evaluate(model, data, f"likelihood(samples={k})")["likelihood"] for k in (1, 200))
    assert few["nll"] == pytest.approx(few["negative_elbo"])
    assert truth - 0.1 < many["nll"] < many["negative_elbo"] - 0.2


def test_likelihood_is_deterministic_and_does_not_change_the_model(linear):
    model, data, _ = linear
    step, modes = model.latent().step.clone(), [each.training for each in model.modules()]
    twice = [rk.evaluate(model, data, "likelihood(samples=4)")["likelihood"] for _ in range(2)]
    assert twice[0] == twice[1]
    assert [each.training for each in model.modules()] == modes
    assert torch.equal(model.latent().step, step)


@pytest.mark.slow
def test_a_binary_model_matches_the_sum_over_all_codes():
    """Two fair bits: p(x) is the mean of four likelihoods, which many samples must reach."""
    generator = torch.Generator().manual_seed(0)
    data = Tensors(
        {"x": torch.randn(16, 3, generator=generator)},
        rk.Signature({"x": rk.Field(kind="vector", shape=(3,))}),
    )
    model = rk.build(data=data, encoder="mlp(widths=(4,))", latent="binary(bits=2)", decoder=Unit(3), seed=1)
    codes = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    with torch.no_grad():
        means = next(iter(model.adapters.values()))(codes)
        next(iter(model.factors.values())).adapter.weight.mul_(0.2)  # every code is drawn now and then
    x = data.batch(range(16))["x"]
    each = torch.distributions.Normal(means, 1.0).log_prob(x.unsqueeze(1)).sum(-1)
    truth = -(each.logsumexp(1) - math.log(4)).mean().item()
    found = rk.evaluate(model, data, "likelihood(samples=2000)")["likelihood"]
    assert found["nll"] == pytest.approx(truth, abs=0.02)


def test_code_bits_of_a_codebook_under_a_prior(digits, tmp_path):
    train, test = digits
    model = rk.build(data=train, encoder="mlp", latent="vq(codes=8, dim=4, codebooks=2)", decoder="mlp")
    model.train()
    model(train.batch(range(64)))
    model.update()
    codes = rk.data.CodesOf(model, test)
    prior = rk.build(data=codes, decoder="gru(width=16, causal=True)", objective="autoregressive")
    found = rk.evaluate(model, test, rk.create("evaluator", "likelihood", prior=prior))["likelihood"]
    alone = rk.evaluate(prior, codes, "reconstruction")["reconstruction"]["nll"]
    left = rk.evaluate(model, test, "reconstruction")["reconstruction"]["nll"]
    assert found["code_bits"] == pytest.approx(alone / math.log(2), rel=1e-5)
    assert found["nll"] == pytest.approx(left + alone, rel=1e-5)
    model.save(tmp_path / "model"), prior.save(tmp_path / "prior")
    loaded = rk.evaluate(rk.load(tmp_path / "model"), test, f"likelihood(prior='{tmp_path / 'prior'}')")
    assert loaded["likelihood"]["nll"] == pytest.approx(found["nll"], rel=1e-6)


def test_levels_make_a_gaussian_a_distribution_over_them():
    params = {"mean": torch.tensor([[[0.3, 0.9, -4.0]]]), "log_scale": torch.tensor([[[-2.0, 0.5, -3.0]]])}
    values = torch.linspace(-1, 1, 17)
    decoded = Decoded(x=params["mean"], likelihood="gaussian", params=params)
    nats = discretized_nll(decoded, values.view(-1, 1, 1).expand(-1, 1, 3), (-1.0, 1.0), 17)
    assert torch.allclose(nats.double().neg().exp().sum(0), torch.ones(1, 3, dtype=torch.float64), atol=1e-6)
    middle = norm.cdf(0.25 + 1 / 16, 0.3, math.exp(-2)) - norm.cdf(0.25 - 1 / 16, 0.3, math.exp(-2))
    assert nats[10, 0, 0].item() == pytest.approx(-math.log(middle), rel=1e-5)
    assert torch.isfinite(nats).all()  # -4 lies 80 deviations below the lowest value


def test_models_without_a_likelihood_are_refused(digits):
    train, test = digits
    build = {"data": train, "encoder": "mlp", "decoder": "mlp"}
    with pytest.raises(BuildError, match="has no density"):
        rk.evaluate(rk.build(latent="continuous(dim=2)", **build), test, "likelihood")
    with pytest.raises(BuildError, match="has no prior: train one"):
        rk.evaluate(rk.build(latent="vq(codes=4)", **build), test, "likelihood")
    wide = Tensors({"x": torch.randn(8, 2)}, rk.Signature({"x": rk.Field(kind="vector", shape=(2,))}))
    model = rk.build(data=wide, encoder="mlp", latent="gaussian(dim=2)", decoder="mlp")
    with pytest.raises(BuildError, match="does not declare"):
        rk.evaluate(model, wide, "likelihood(samples=1, levels=4)")
    for wrong in ("likelihood(samples=0)", "likelihood(levels=1)"):
        with pytest.raises(PartArgumentError, match="must be an integer"):
            rk.create("evaluator", wrong)


def test_a_decoder_alone_has_its_exact_likelihood(digits):
    train, test = digits
    model = rk.build(data=train, decoder="gru(width=8, causal=True)", objective="autoregressive")
    found = rk.evaluate(model, test, "likelihood", "reconstruction")
    assert found["likelihood"]["nll"] == pytest.approx(found["reconstruction"]["nll"], rel=1e-6)
