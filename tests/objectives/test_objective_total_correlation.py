"""Total correlation against loops over torch.distributions, closed forms, and enumeration of batches."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.objectives.total_correlation import _log_weights, total_correlation
from reprkit.testing import ObjectiveConformance

DATA = Signature({"x": Field(kind="vector", shape=(3,))})


def make(latent="gaussian(dim=4)", data=DATA, objective="reconstruction + 2 * total-correlation", **parts):
    parts = {"encoder": "mlp(widths=(8,))", "decoder": "mlp(widths=(8,), scale=1.0)", **parts}
    return rk.build(data=data, latent=latent, objective=objective, **parts)


def posteriors(b=5, d=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(b, d, generator=generator)
    deviation = 0.2 + torch.rand(b, d, generator=generator)
    return mean + deviation * torch.randn(b, d, generator=generator), mean, deviation


def by_loops(z, mean, deviation, weight):
    """log q(z) - sum of log q(z_d), with the densities of torch.distributions, added up one at a time."""
    found = []
    for i in range(len(z)):
        density = [Normal(mean[j], deviation[j]).log_prob(z[i]).double().exp() for j in range(len(mean))]
        together = sum(float(weight[i][j] * density[j].prod()) for j in range(len(mean)))
        apart = [
            sum(float(weight[i][j] * density[j][d]) for j in range(len(mean))) for d in range(z.shape[1])
        ]
        found.append(math.log(together) - sum(map(math.log, apart)))
    return torch.tensor(found)


def test_minibatch_weighted_sampling():
    z, mean, deviation = posteriors()
    expected = by_loops(z, mean, deviation, torch.full((5, 5), 1 / 5).tolist())
    torch.testing.assert_close(total_correlation(z, mean, deviation), expected, atol=1e-4, rtol=1e-4)


def test_minibatch_stratified_sampling():
    """The weights of Chen et al. 2018, appendix C.2, written out for a batch of 4 from 10 examples."""
    z, mean, deviation = posteriors(b=4)
    n, m = 10, 3
    weight = [[1 / m] * 4 for _ in range(4)]
    for i in range(4):
        weight[i][i] = 1 / n
        weight[i][(i + 1) % 4] = (n - m) / (n * m)
    expected = by_loops(z, mean, deviation, weight)
    found = total_correlation(z, mean, deviation, examples=10)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_stratified_weights_are_unbiased():
    """The mean over all batches with the draw's example is the density of the whole data set; equal weights are biased."""
    densities = torch.tensor([5.0, 0.3, 1.1, 0.7, 2.0], dtype=torch.float64)
    weights = {
        "stratified": _log_weights(3, 3, 5)[0].double().exp(),
        "equal": torch.full((3,), 1 / 3).double(),
    }
    estimates = {name: [] for name in weights}
    for others in itertools.permutations(range(1, 5), 2):
        batch = densities[[0, *others]]
        for name, found in estimates.items():
            found.append(float(weights[name] @ batch))
    assert sum(estimates["stratified"]) / 12 == pytest.approx(float(densities.mean()), rel=1e-6)
    assert sum(estimates["equal"]) / 12 > 1.2 * float(densities.mean())


def test_equal_posteriors_have_none():
    z, mean, deviation = posteriors()
    found = total_correlation(z, mean[:1].expand(5, 3), deviation[:1].expand(5, 3))
    torch.testing.assert_close(found, torch.zeros(5), atol=1e-5, rtol=0)


def test_correlated_means_have_that_of_a_gaussian():
    """Narrow posteriors around correlated means: their mixture is nearly the means' Gaussian."""
    torch.manual_seed(0)
    rho = 0.9
    one = torch.randn(2000, 2)
    mean = torch.stack([one[:, 0], rho * one[:, 0] + math.sqrt(1 - rho**2) * one[:, 1]], 1)
    deviation = torch.full_like(mean, 0.15)
    z = mean + deviation * torch.randn_like(mean)
    # Of z, whose variance the draws raise.
    expected = -0.5 * math.log(1 - (rho / (1 + 0.15**2)) ** 2)
    assert float(total_correlation(z, mean, deviation).mean()) == pytest.approx(expected, abs=0.08)


def test_the_loss_is_that_of_masked_means_of_tokens():
    """An example's tokens are averaged; padding has no part in it, and evaluation draws with a fixed seed."""
    data = Signature({"x": Field(kind="sequence", shape=(None, 3))})
    model = make(
        data=data,
        encoder="gru(width=8)",
        decoder="gru(width=8, scale=1.0)",
        objective="reconstruction + total-correlation",
    )
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True] * 3 + [False]])
    batch = {"x": torch.randn(3, 4, 3), "x_mask": mask}
    torch.manual_seed(3)
    code = model.encode(batch)["code"]
    vectors = [code.z[i, :n] for i, n in enumerate((4, 2, 3))]
    means = [code.mean[i, :n].mean(0) for i, n in enumerate((4, 2, 3))]
    deviations = [code.deviation[i, :n].square().sum(0).sqrt() / n for i, n in enumerate((4, 2, 3))]
    expected = total_correlation(
        torch.stack([v.mean(0) for v in vectors]), torch.stack(means), torch.stack(deviations)
    )
    torch.manual_seed(3)
    losses = model(batch)
    torch.testing.assert_close(losses.terms["total_correlation"], expected.mean(), atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        assert torch.equal(model.eval()(batch).total, model(batch).total)


def test_permuted_codes_keep_every_dimension():
    from reprkit.objectives.total_correlation import _permute_dimensions

    z = torch.arange(24.0).view(8, 3)
    for training in (True, False):
        found = _permute_dimensions(z, training)
        assert torch.equal(found.sort(0).values, z)
        rows = {tuple(row) for row in z.tolist()}
        assert sum(tuple(row) in rows for row in found.tolist()) < 4


def test_wrong_settings_are_refused():
    with pytest.raises(BuildError, match="needs a latent that provides deviation, a Gaussian draw, and"):
        make("continuous(dim=4)")
    with pytest.raises(BuildError, match="it has one: use a wider latent"):
        make("gaussian(dim=1)")
    with pytest.raises(PartArgumentError, match="'stratified' needs examples="):
        make(objective="total-correlation(estimate='stratified')")
    with pytest.raises(PartArgumentError, match="'stratified' needs examples="):
        make(objective="total-correlation(examples=100)")
    with pytest.raises(DataError, match="at least 2 examples, not 1"):
        make()({"x": torch.zeros(1, 3)})
    with pytest.raises(DataError, match="at most 4, the size of the data set, not 5"):
        make(objective="total-correlation(estimate='stratified', examples=4)")({"x": torch.randn(5, 3)})
    two = {
        "one": rk.factor("mlp(widths=(8,))", "gaussian(dim=2)"),
        "two": rk.factor("mlp(widths=(8,))", "continuous(dim=2)"),
    }
    with pytest.raises(BuildError, match="does not provide 'deviation': use gaussian, or estimate='critic'"):
        rk.build(
            data=DATA, factors=two, decoder="mlp(widths=(8,))", objective="total-correlation(factor='two')"
        )


@pytest.mark.ranks
class TestMinibatch(ObjectiveConformance):
    part = "total-correlation"


@pytest.mark.ranks
class TestStratified(ObjectiveConformance):
    part = "total-correlation(estimate='stratified', examples=50)"


@pytest.mark.ranks
class TestCritic(ObjectiveConformance):
    part = "total-correlation(estimate='critic', width=16, depth=1)"


@pytest.mark.slow
def test_the_critic_learns_the_total_correlation():
    """Of two correlated numbers, which a frozen encoder passes on: that of the Gaussian, in nats."""
    torch.manual_seed(0)
    rho = 0.8
    one = torch.randn(4000, 2)
    x = torch.stack([one[:, 0], rho * one[:, 0] + math.sqrt(1 - rho**2) * one[:, 1]], 1)
    data = rk.dataset({"x": x})
    model = rk.build(
        data=data,
        encoder="flat",
        latent="continuous(dim=2)",
        decoder="flat",
        objective="reconstruction + total-correlation(estimate='critic', width=64, depth=2)",
        freeze=("code.encoder", "adapters"),
    )
    for step in rk.loop(
        model, data, steps=400, batch=256, lr=3e-3, progress=False, optimizers={"critic": "adam"}
    ):
        losses = step.model(step.batch, "critic")
        step.backward(losses.total)
        step.update("critic")
    with torch.no_grad():
        found = float(model.eval()({"x": x}).terms["total_correlation"])
    assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "penalty", ["total-correlation", "total-correlation(estimate='critic', width=64, depth=2)"]
)
def test_the_penalty_makes_dimensions_independent(penalty):
    """Two factors turned by 45 degrees.  The penalty lowers the code's total correlation, measured with the mixture of 1,000."""
    torch.manual_seed(0)
    factors = torch.rand(2000, 2) * torch.tensor([4.0, 2.0])
    x = factors @ torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)
    data = rk.dataset({"x": x})
    found = {}
    for weight in (0, 8):
        model = make(
            "gaussian(dim=2)", data, f"reconstruction + {weight} * {penalty}",
            encoder="mlp(widths=(32, 32))", decoder="mlp(widths=(32, 32), scale=0.1)",
        )  # fmt: skip
        # The critic must learn faster than the encoder against which it is trained.
        critic = {"critic": "adam(lr=0.005, betas=(0.5, 0.9))"} if len(model.objective.turns) > 1 else {}
        for step in rk.loop(model, data, steps=500, batch=128, lr=1e-3, progress=False, optimizers=critic):
            for turn in model.objective.turns:
                losses = step.model(step.batch, turn)
                step.backward(losses.total)
                step.update(turn)
        with torch.no_grad():
            code = model.eval().encode({"x": x[:1000]})["code"]
        z, deviation = code.z[:, 0], code.deviation[:, 0]
        z = z + deviation * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
        found[weight] = float(total_correlation(z, code.z[:, 0], deviation).mean())
    assert found[8] < 0.7 * found[0], found
    assert found[0] > 0.05
