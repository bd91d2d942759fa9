"""The Jacobian of code and output, against finite differences and closed forms in float64."""

import pytest
import torch

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, PartArgumentError, TrainingError
from reprkit.interfaces import Encoder
from reprkit.registry.create import create
from reprkit.registry.registry import Registry
from reprkit.testing.pool import together
from reprkit.testing.sample_data import random_batch
from reprkit.testing.small import small_references
from reprkit.types import Features

DATA = {
    "image": Signature({"x": Field(kind="image", shape=(4, 4, 1), range=(0, 1))}),
    "vector": Signature({"x": Field(kind="vector", shape=(5,))}),
    "sequence": Signature({"x": Field(kind="sequence", shape=(4, 2))}),
}
ENCODERS = {
    "flat": ("flat", "vector"),
    "mlp": ("mlp(widths=(6,))", "vector"),
    "conv": ("conv(width=4, depth=1, blocks=1)", "image"),
    "vit": ("vit(patch=2, width=8, depth=1, heads=2)", "image"),
    "gru": ("gru(width=5)", "sequence"),
    "transformer": ("transformer(width=8, depth=1, heads=2)", "sequence"),
}
DECODERS = {
    "vector": "mlp(widths=(6,))",
    "image": "conv(width=4, depth=1)",
    "sequence": "gru(width=5, causal=False)",
}
REGISTRY = Registry(installed=False)
LATENTS = [part for part in small_references("latent") if create("latent", part).vocab is None]
DISCRETE = [part for part in small_references("latent") if part not in LATENTS]


def make(data, **parts):
    """Return a model in float64, in evaluation mode, and a batch."""
    model = rk.build(data=data, **parts).double().eval()
    batch = {name: value.double() for name, value in random_batch(data, 3, seed=1).items()}
    return model, batch


def differences(function, x, step=1e-5):
    """Return the Jacobian of ``function`` (b ... to b o) at x by central differences (b o i)."""
    columns = []
    for index in range(x[0].numel()):
        shift = torch.zeros_like(x).flatten(1)
        shift[:, index] = step
        shift = shift.view_as(x)
        columns.append((function(x + shift) - function(x - shift)) / (2 * step))
    return torch.stack(columns, -1)


def test_every_encoder_is_tested():
    assert set(ENCODERS) == {part.name for part in REGISTRY.specs("encoder")}


@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_jacobian_equals_finite_differences(encoder, latent):
    reference, kind = ENCODERS[encoder]
    model, batch = make(DATA[kind], encoder=reference, latent=latent, decoder=DECODERS[kind])
    with torch.no_grad():
        code = differences(lambda x: model.encode({"x": x}).point.flatten(1), batch["x"])
        output = differences(lambda x: model.decode(model.encode({"x": x})).x.flatten(1), batch["x"])
    assert code.abs().max() > 1e-3
    torch.testing.assert_close(model.jacobian(batch), code, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.jacobian(batch, "output"), output, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("latent", DISCRETE)
def test_discrete_latents_are_refused(latent):
    model, batch = make(DATA["vector"], encoder="mlp(widths=(6,))", latent=latent, decoder="mlp(widths=(6,))")
    for of in ("code", "output"):
        with pytest.raises(
            BuildError,
            match=f"latent reprkit/{latent.partition('(')[0]} of factor code is discrete: .* no Jacobian",
        ):
            model.jacobian(batch, of)


def test_symbols_are_refused():
    words = Signature({"x": Field(kind="tokens", shape=(5,), vocab=11)})
    model = rk.build(data=words, encoder="gru(width=4)", decoder="gru(width=4)")
    with pytest.raises(BuildError, match="field 'x' holds symbols, and there is no derivative"):
        model.jacobian(random_batch(words, 2))
    both = Signature({"x": Field(kind="vector", shape=(5,)), "y": Field(kind="label", shape=(), vocab=3)})
    model = rk.build(data=both, encoder="mlp(widths=(4,))", decoder="mlp(widths=(4,))", output="y")
    with pytest.raises(BuildError, match="output field 'y' holds symbols"):
        model.jacobian(random_batch(both, 2), "output")


@pytest.mark.parametrize("options", [{"of": "codes"}, {"probes": -1}])
def test_wrong_arguments_are_refused(options):
    model, batch = make(DATA["vector"], encoder="mlp(widths=(4,))", decoder="mlp(widths=(4,))")
    with pytest.raises(PartArgumentError, match="jacobian takes of='code' or of='output'"):
        model.jacobian(batch, **options)


class Same(Encoder):
    """Returns the data."""

    def __init__(self):
        super().__init__()
        self.out_dim = 5

    def forward(self, batch, *, keep=None):
        """Return one token."""
        return Features(x=batch["x"].unsqueeze(1), grid=(1,))

    def count(self, batch):
        """Return 1."""
        return 1

    def grid(self, batch):
        """Return one cell."""
        return (1,)


def sigmoid_layer(**parts):
    """Return a model whose code is one sigmoid layer, a batch, the layer's weight, and the code's slopes h (1 - h)."""
    latent = "continuous(dim=4, activation='sigmoid')"
    model, batch = make(DATA["vector"], encoder=Same(), latent=latent, decoder="mlp(widths=(4,))", **parts)
    layer = model.factors["code"].adapter
    code = torch.sigmoid(layer(batch["x"]))
    return model, batch, layer.weight, code * (1 - code)


def test_a_sigmoid_layer_has_the_closed_form():
    model, batch, weight, slope = sigmoid_layer()
    torch.testing.assert_close(
        model.jacobian(batch), (slope.unsqueeze(-1) * weight).detach(), rtol=1e-6, atol=1e-6
    )


def test_contractive_equals_the_closed_form_and_its_gradient():
    """Rifai et al. 2011, eq. 3: the sum over j of (h_j (1 - h_j))^2 sum_i W_ji^2."""
    model, batch, weight, slope = sigmoid_layer(objective="reconstruction + 2 * contractive")
    model.train()
    expected = (slope.square() * weight.square().sum(1)).sum(1).mean()
    losses = model(batch)
    torch.testing.assert_close(losses.terms["contractive"], expected.detach(), rtol=1e-6, atol=1e-6)
    reconstruction = model.score(batch).total / len(batch["x"])
    (mine,) = torch.autograd.grad(losses.total, weight)
    (other,) = torch.autograd.grad(reconstruction + 2 * expected, weight)
    torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


def test_probes_estimate_the_norm():
    model, batch, _, _ = sigmoid_layer()
    whole = model.jacobian(batch).square().sum((1, 2))
    probes = model.jacobian(batch, probes=400, generator=torch.Generator().manual_seed(0))
    assert probes.shape == (3, 400, 5)
    torch.testing.assert_close(probes.square().sum((1, 2)) / 400, whole, rtol=0.3, atol=0)


def test_a_penalty_alone_gets_a_reconstruction(tmp_path):
    model = rk.build(
        data=DATA["vector"],
        encoder="mlp(widths=(4,))",
        decoder="mlp(widths=(4,))",
        objective="contractive(probes=1)",
    )
    assert model.objective.expression == "reprkit/reconstruction + reprkit/contractive(probes=1)"
    loaded = rk.load(model.save(tmp_path / "model"))
    assert loaded.objective.expression == model.objective.expression
    batch = random_batch(DATA["vector"], 4)
    assert torch.equal(loaded.eval()(batch).total, model.eval()(batch).total)


def test_nothing_is_counted_and_modes_stay():
    parts = {"encoder": "mlp(widths=(4,))", "decoder": "mlp(widths=(4,))", "latent": "gaussian(dim=4)"}
    one, two = (
        rk.build(data=DATA["vector"], objective=o, **parts)
        for o in ("reconstruction + contractive", "reconstruction")
    )
    batch = random_batch(DATA["vector"], 4)
    totals = []
    for model in (one, two):
        torch.manual_seed(0)
        model.train()
        losses = model(batch)
        totals.append(
            (losses.terms["kl"], losses.metrics["usage"], model.factors["code"].usage.moments.clone())
        )
        assert all(module.training for module in model.modules())
    for mine, other in zip(*totals, strict=True):
        assert torch.equal(mine, other)


def test_second_derivatives_under_attention():
    """Torch's fast attention kernels cannot be differentiated twice."""
    parts = {"encoder": ENCODERS["vit"][0], "decoder": DECODERS["image"], "latent": "continuous(dim=3)"}
    model = rk.build(data=DATA["image"], objective="reconstruction + contractive", **parts)
    model(random_batch(DATA["image"], 4)).total.backward()
    assert all(p.grad is not None for p in model.factors["code"].encoder.parameters())


def test_evaluator_of_a_sigmoid_layer():
    model, batch, weight, slope = sigmoid_layer()
    model = model.float()
    data = rk.dataset({"x": batch["x"].float().numpy()})
    found = rk.evaluate(model, data, "jacobian")["jacobian"]
    singular = torch.linalg.svdvals((slope.unsqueeze(-1) * weight).detach())
    assert found["norm"] == pytest.approx(float(singular.square().sum(1).sqrt().mean()), rel=1e-4)
    assert found["largest"] == pytest.approx(float(singular[:, 0].mean()), rel=1e-4)
    shares = singular / singular.sum(1, keepdim=True)
    assert found["dimension"] == pytest.approx(
        float(torch.special.entr(shares).sum(1).exp().mean()), rel=1e-4
    )


def test_compilation_is_refused(digits):
    model = rk.build(
        data=digits,
        encoder="mlp(widths=(4,))",
        decoder="mlp(widths=(4,))",
        objective="reconstruction + contractive",
    )
    with pytest.raises(
        TrainingError, match=r"needs a second derivative, which torch\.compile does not support"
    ):
        list(rk.loop(model, digits, steps=1, batch=8, compile=True, device="cpu"))


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits")


def on_rank(rank, strategy):
    torch.set_num_threads(1)
    data = rk.dataset("digits")
    model = rk.build(
        data=data,
        encoder="mlp(widths=(8,))",
        decoder="mlp(widths=(8,))",
        objective="reconstruction + 0.1 * contractive(probes=2)",
    )
    try:
        options = {
            "steps": 2,
            "batch": 16,
            "lr": 1e-3,
            "optimizer": "sgd",
            "device": "cpu",
            "strategy": strategy,
        }
        for step in rk.loop(model, data, **options, log_every=0):
            step.backward(step.model(step.batch).total)
            step.update()
    except TrainingError as error:
        return str(error)
    return model.state_dict()


@pytest.mark.slow
@pytest.mark.ranks
def test_two_processes_train_as_one():
    whole = on_rank(0, "ddp")
    for weights in together(2, on_rank, "ddp"):
        for name, value in weights.items():
            torch.testing.assert_close(value, whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.ranks
def test_sharded_weights_are_refused():
    for message in together(2, on_rank, "fsdp"):
        assert (
            "needs a second derivative, which sharded weights do not support: use strategy='ddp'" in message
        )
