"""Objective "diffusion": schedules, loss and samplers equal to formulas written here, those of the papers and of diffusers."""

import math

import pytest
import torch
from learning import digits

import reprkit as rk
from reprkit.data import Field, Signature, Tensors
from reprkit.errors import BuildError, PartArgumentError
from reprkit.objectives.noise_schedule import (
    add_noise,
    predicted_data,
    prediction_target,
    previous_step,
    signal_shares,
)
from reprkit.testing import ObjectiveConformance
from reprkit.testing.sample_data import VECTORS


class TestVelocityWithDroppedConditions(ObjectiveConformance):
    part = "diffusion(prediction='velocity', steps=50, schedule='cosine', drop=0.3, width=7)"
    data = VECTORS
    factors = {
        "code": rk.factor("mlp(widths=(16,))", "continuous(dim=4)"),
        "time": rk.factor("mlp(widths=(16,))", "continuous(dim=4)", input="time"),
        "label": rk.factor("mlp(widths=(16,))", "continuous(dim=4)", input="label"),
    }
    decoder = "mlp(widths=(16,))"


FACTORS = {
    "code": rk.factor("mlp(width=32)", "continuous(dim=16)"),
    "time": rk.factor("mlp(width=16)", "continuous(dim=16)", input="time", pool=True),
}
LABELED = {**FACTORS, "label": rk.factor("mlp(width=16)", "continuous(dim=16)", input="label", pool=True)}


def build(objective="diffusion", *, data=None, factors=None, decoder="mlp(width=32, scale=1.0)", **options):
    data = digits()[0] if data is None else data
    return rk.build(data=data, factors=factors or FACTORS, decoder=decoder, objective=objective, **options)


# ------------------------------------------------------------------ schedules


def test_the_linear_schedule_is_that_of_ddpm():
    product, expected = 1.0, []
    for step in range(1000):  # diffusers' DDPMScheduler, beta_schedule="linear"
        product *= 1 - (0.0001 + (0.02 - 0.0001) * step / 999)
        expected.append(product)
    torch.testing.assert_close(signal_shares("linear", 1000), torch.tensor(expected, dtype=torch.float64))


def test_the_cosine_schedule_is_that_of_nichol_and_dhariwal():
    def share(time):
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    product, expected = 1.0, []
    for step in range(50):  # diffusers' betas_for_alpha_bar, "squaredcos_cap_v2"
        product *= 1 - min(1 - share((step + 1) / 50) / share(step / 50), 0.999)
        expected.append(product)
    torch.testing.assert_close(signal_shares("cosine", 50), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("prediction", ["noise", "data", "velocity"])
def test_each_prediction_implies_the_data(prediction):
    generator = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    for share in signal_shares("linear", 1000)[[0, 400, 900]]:
        noised = add_noise(data, noise, share)
        target = prediction_target(prediction, data, noise, share)
        torch.testing.assert_close(predicted_data(prediction, target, noised, share), data)
    velocity = prediction_target("velocity", data, noise, share)
    torch.testing.assert_close(velocity, share.sqrt() * noise - (1 - share).sqrt() * data)


# ------------------------------------------------------------------ the loss


def test_the_loss_is_half_of_equation_14():
    signature = Signature({"x": Field(kind="vector", shape=(3,), range=(-1.0, 1.0))})
    x = torch.rand(6, 3, generator=torch.Generator().manual_seed(3)) * 2 - 1
    data = Tensors({"x": x}, signature)
    model = build(data=data)
    torch.manual_seed(7)
    loss = model({"x": x}).total

    torch.manual_seed(7)
    step = (torch.rand(6) * 1000).long()
    noise = torch.randn(6, 3)
    share = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)[step].float()[:, None]
    noised = share.sqrt() * x + (1 - share).sqrt() * noise
    angles = step[:, None] * 10_000.0 ** (-torch.arange(16) / 16)
    time = torch.cat([angles.sin(), angles.cos()], 1)
    predicted = model.decode(model.encode({"x": noised, "time": time}, in_range=False)).x[:, 0]
    expected = (noise - predicted).square().sum(1) / 2 + 3 * math.log(2 * math.pi) / 2
    torch.testing.assert_close(loss, expected.mean(), rtol=1e-4, atol=1e-4)


def test_data_is_rescaled_by_its_range_or_its_columns():
    model = build()
    assert (float(model.objective.center), float(model.objective.radius)) == (0.5, 0.5)
    columns = (rk.Column("a", mean=5.0, std=2.0), rk.Column("b", mean=-1.0, std=0.5))
    data = Tensors(
        {"x": torch.randn(9, 2)}, Signature({"x": Field(kind="vector", shape=(2,), columns=columns)})
    )
    model = build(data=data)
    assert model.objective.center.tolist() == [5.0, -1.0]
    assert model.objective.radius.tolist() == [2.0, 0.5]


# ------------------------------------------------------------------ samplers


def test_the_ancestral_step_is_that_of_ddpm():
    shares = signal_shares("linear", 1000)
    generator = torch.Generator().manual_seed(1)
    noised, data, noise = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    for step in (1, 500, 999):
        share, earlier = shares[step], shares[step - 1]
        beta = 1 - share / earlier
        mean = (
            earlier.sqrt() * beta / (1 - share) * data
        )  # Ho et al. 2020, eq. 7; diffusers' DDPMScheduler.step
        mean = mean + (share / earlier).sqrt() * (1 - earlier) / (1 - share) * noised
        variance = (1 - earlier) / (1 - share) * beta
        expected = mean + variance.sqrt() * noise
        torch.testing.assert_close(previous_step(noised, data, share, earlier, 1.0, noise), expected)


@pytest.mark.parametrize("eta", [0.0, 0.4])
def test_the_ddim_step_is_equation_12(eta):
    shares = signal_shares("cosine", 100)
    generator = torch.Generator().manual_seed(1)
    noised, data, noise = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    share, earlier = shares[80], shares[60]
    epsilon = (noised - share.sqrt() * data) / (1 - share).sqrt()
    sigma = eta * ((1 - earlier) / (1 - share)).sqrt() * (1 - share / earlier).sqrt()
    expected = earlier.sqrt() * data + (1 - earlier - sigma**2).sqrt() * epsilon + sigma * noise
    found = previous_step(noised, data, share, earlier, eta, noise if eta else None)
    torch.testing.assert_close(found, expected)


class Known:
    """A stand-in for the prediction that knows the noise exactly, for data that is one point."""

    def __init__(self, model, point):
        self.model, self.point = model, point

    def __call__(self, model, batch, x, time, guidance, conditions):
        share = self.model.objective.shares[time].to(x)
        decoded = self.model.decode(self.model.encode({**batch, self.model.output: x}, in_range=False))
        return (x - share.sqrt() * self.point) / (1 - share).sqrt(), decoded


@pytest.mark.parametrize(("eta", "steps"), [(0.0, 10), (1.0, 10), (1.0, None)])
def test_a_perfect_prediction_gives_the_data(eta, steps):
    signature = Signature({"x": Field(kind="vector", shape=(2,))})
    model = build("diffusion(steps=60)", data=Tensors({"x": torch.zeros(3, 2)}, signature)).eval()
    point = torch.tensor([3.0, -2.0])
    model.objective._predict = Known(model, point)
    drawn = model.sample(5, torch.Generator().manual_seed(0), eta=eta, steps=steps)
    torch.testing.assert_close(drawn.x, point.expand(5, 1, 2), atol=1e-3, rtol=0)


class MixtureOfGaussians:
    """A stand-in for the prediction that knows the exact score of noised values of two Gaussians on a line."""

    means, deviation, weights = torch.tensor([-0.6, 0.5]), 0.1, torch.tensor([0.3, 0.7])

    def __init__(self, model):
        self.model = model

    def __call__(self, model, batch, x, time, guidance, conditions):
        share = self.model.objective.shares[time].to(x)
        variance = share * self.deviation**2 + 1 - share
        distance = share.sqrt() * self.means - x  # (b 2)
        posterior = (self.weights.log() - distance.square() / (2 * variance)).softmax(1)
        score = (posterior * distance / variance).sum(1, keepdim=True)
        decoded = self.model.decode(self.model.encode({**batch, self.model.output: x}, in_range=False))
        return -(1 - share).sqrt() * score, decoded


@pytest.mark.parametrize(("eta", "steps"), [(0.0, 50), (1.0, 100), (0.5, 100)])
def test_samplers_draw_from_a_mixture_whose_score_is_exact(eta, steps):
    signature = Signature({"x": Field(kind="vector", shape=(1,), range=(-1.0, 1.0))})
    model = build(
        "diffusion(steps=400, schedule='cosine')", data=Tensors({"x": torch.zeros(3, 1)}, signature)
    )
    model.eval().objective._predict = MixtureOfGaussians(model)
    x = model.sample(2_000, torch.Generator().manual_seed(0), eta=eta, steps=steps).x[:, 0, 0]
    right = x > 0
    assert abs(float(right.float().mean()) - 0.7) < 0.03
    for chosen, mean in ((~right, -0.6), (right, 0.5)):
        assert abs(float(x[chosen].mean()) - mean) < 0.02
        assert abs(float(x[chosen].std()) - 0.1) < 0.02


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_whole_draw_is_the_loop_of_the_papers(eta):
    """Ten of 40 steps under guidance: the same numbers as a loop of Ho et al.'s and Song et al.'s equations written here."""
    model = build("diffusion(steps=40, drop=0.2, schedule='cosine')", factors=LABELED).eval()
    like = {"label": torch.tensor([3, 1])}
    found = model.sample(2, torch.Generator().manual_seed(4), steps=10, eta=eta, guidance=1.5, like=like)

    generator, shares = torch.Generator().manual_seed(4), model.objective.shares
    x = torch.randn(2, 8, 8, 1, generator=generator)
    times = [39, 35, 30, 26, 22, 17, 13, 9, 4, 0]
    for time, before in zip(times, [*times[1:], None], strict=True):
        step = torch.full((2,), time)
        batch = {**like, "x": 0.5 + 0.5 * x, "time": model.objective.embed(step).float()}
        with torch.no_grad():
            codes = model.encode(batch, in_range=False)
            free = codes | {"label": rk.Code(z=torch.zeros_like(codes["label"].z))}
            noise, alone = ((model.decode(each).x.reshape(2, 8, 8, 1) - 0.5) / 0.5 for each in (codes, free))
        noise = alone + 1.5 * (noise - alone)
        share = float(shares[time])
        data = ((x - (1 - share) ** 0.5 * noise) / share**0.5).clamp(-1, 1)
        if before is None:
            x = data
            break
        earlier = float(shares[before])
        noise = (x - share**0.5 * data) / (1 - share) ** 0.5  # of the clamped data
        sigma = eta * ((1 - earlier) / (1 - share) * (1 - share / earlier)) ** 0.5
        x = earlier**0.5 * data + (1 - earlier - sigma**2) ** 0.5 * noise
        if eta:
            x = x + sigma * torch.randn(2, 8, 8, 1, generator=generator)
    torch.testing.assert_close(found.x.reshape(2, 8, 8, 1), 0.5 + 0.5 * x, atol=1e-5, rtol=1e-4)


def test_conditions_are_encoded_once():
    model = build("diffusion(steps=20, drop=0.1)", factors=LABELED).eval()
    counts = {"label": 0, "time": 0}
    for name in counts:
        model.factors[name].encoder.register_forward_hook(
            lambda *_, name=name: counts.__setitem__(name, counts[name] + 1)
        )
    model.sample(2, torch.Generator().manual_seed(0), steps=5, like={"label": torch.tensor([1, 2])})
    assert counts == {"label": 1, "time": 5}


@pytest.mark.slow
def test_a_short_training_generates_values_of_the_data():
    """Two points in the plane: every sample is near one of them."""
    points = torch.tensor([[0.8, 0.8], [-0.8, -0.8]])
    data = Tensors(
        {"x": points.repeat(128, 1)}, Signature({"x": Field(kind="vector", shape=(2,), range=(-1.0, 1.0))})
    )
    model = build("diffusion(steps=50, schedule='cosine')", data=data, decoder="mlp(width=64)")
    for step in rk.loop(model, data, steps=250, batch=64, lr=5e-3, log_every=0):
        step.backward(step.model(step.batch).total)
        step.update()
    x = model.eval().sample(60, torch.Generator().manual_seed(0), steps=25, eta=0.0).x[:, 0]
    distance = torch.cdist(x, points)
    assert float(distance.amin(1).median()) < 0.15
    assert 0.2 < float((distance.argmin(1) == 0).float().mean()) < 0.8


# ------------------------------------------------------------------ conditions, save, refusals


def test_guidance_moves_away_from_the_unconditional_prediction():
    model = build("diffusion(steps=20, drop=0.2)", factors=LABELED).eval()
    with torch.no_grad():
        model.objective.absent["label"].fill_(1.0)
    like = {"label": torch.tensor([1, 2, 3])}
    objective = model.objective
    batch = objective._blank_batch(model, 3, like)
    x = torch.randn(3, 8, 8, 1, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with_label = objective._predict(model, batch, x, 5, 1.0)[0]
        guided = objective._predict(model, batch, x, 5, 3.0)[0]
        codes = model.encode(objective._view(model, batch, x, torch.full((3,), 5)), in_range=False)
        codes = codes | {"label": rk.Code(z=torch.ones_like(codes["label"].z))}
        without = objective._rescaled(model, model.decode(codes))
    torch.testing.assert_close(guided, without + 3 * (with_label - without))


def test_conditions_are_dropped_with_their_probability():
    model = build("diffusion(drop=0.5)", factors=LABELED)
    seen = []
    model.adapters["label"].register_forward_hook(lambda _, given, __: seen.append(given[0].detach()))
    batch = digits()[0].batch(range(400))
    model(batch)
    assert 0.4 < float((seen[0] == 0).all(-1).float().mean()) < 0.6
    model.eval()(batch)
    assert not (seen[1] == 0).all(-1).any()


def test_a_saved_model_samples_as_before(tmp_path):
    model = build("diffusion(steps=20, drop=0.1)", factors=LABELED).eval()
    model.save(tmp_path)
    loaded = rk.load(tmp_path)
    like = {"label": torch.tensor([1, 2])}
    first, again = (
        each.sample(2, torch.Generator().manual_seed(0), steps=4, guidance=2.0, like=like)
        for each in (model, loaded)
    )
    assert first.x.shape == (2, 1, 64)
    torch.testing.assert_close(again.x, first.x, rtol=0, atol=0)
    assert loaded.represent(digits()[0].batch(range(3))).shape == (3, 48)


def test_sampling_options_are_checked():
    model = build("diffusion(steps=20)").eval()
    for options, message in [
        ({"steps": 21}, "steps must be from 1 to 20"),
        ({"eta": 2}, "eta must be from 0 to 1"),
        ({"guidance": 2.0}, r"needs a model trained with diffusion\(drop=\)"),
        ({"speed": 1}, "diffusion samples without speed="),
        ({"temperature": 0.5}, "has a sampler of its own, which takes no temperature="),
    ]:
        with pytest.raises(PartArgumentError, match=message):
            model.sample(2, **options)
    plain = rk.build(data=digits()[0], encoder="mlp", latent="gaussian", decoder="mlp").eval()
    with pytest.raises(PartArgumentError, match="no option 'eta'"):
        plain.sample(2, eta=0.0)
    with pytest.raises(BuildError, match="needs the conditions label"):
        build("diffusion(steps=20)", factors=LABELED).eval().sample(2)


def test_what_is_no_data_is_not_compared_with_the_data():
    data = digits()[0]
    with pytest.raises(BuildError, match="returns the noise of a diffusion, not the data"):
        rk.create("evaluator", "reconstruction")(build().eval(), data)
    model = build("diffusion(prediction='data', steps=20)").eval()
    assert rk.create("evaluator", "reconstruction")(model, data)["nll"] > 0
    found = rk.create("evaluator", "samples(count=4)")(model, data, fit_on=data)
    assert found["n"] == 4


@pytest.mark.parametrize(
    ("factors", "objective", "message"),
    [
        ({"code": FACTORS["code"]}, "diffusion", "no factor reads the time; add one"),
        ({"time": FACTORS["time"]}, "diffusion", "no factor reads field 'x'"),
        (FACTORS, "diffusion(drop=0.1)", "drops conditions, and every factor reads the time or 'x'"),
    ],
)
def test_models_that_cannot_diffuse_are_refused(factors, objective, message):
    with pytest.raises(BuildError, match=message):
        build(objective, factors=factors)


def test_a_likelihood_of_probabilities_is_refused():
    model = build(decoder="mlp(width=32, likelihood='bernoulli')")
    with pytest.raises(BuildError, match="likelihood reprkit/bernoulli does not allow it"):
        model(digits()[0].batch(range(4)))
