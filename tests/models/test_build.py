import subprocess
import sys

import pytest
import torch

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, DataError, PartArgumentError, ReferenceSyntaxError, UnknownPartError
from reprkit.interfaces import Decoder, Objective
from reprkit.models import build
from reprkit.types import Decoded

MLP = {"encoder": "mlp(width=8)", "latent": "continuous(dim=3)", "decoder": "mlp(width=8)"}
DIGITS = Signature(
    {
        "x": Field(kind="image", shape=(8, 8, 1), range=(0.0, 1.0)),
        "label": Field(kind="label", shape=(), vocab=10),
    }
)


class ObjectiveWithNeeds(Objective):
    """An objective with the given needs."""

    def __init__(self, *needs):
        super().__init__()
        self.needs = frozenset(needs)


# ------------------------------------------------------------------ the seed


def random_state():
    return torch.get_rng_state()


@pytest.mark.parametrize("objective", ["reconstruction", "reconstruction + contrastive"])
def test_build_leaves_the_global_random_state_alone(objective):
    torch.manual_seed(5)
    before = random_state()
    rk.build(data=DIGITS, objective=objective, **MLP)
    assert torch.equal(random_state(), before)


def test_a_failing_build_leaves_the_global_random_state_alone():
    before = random_state()
    with pytest.raises(BuildError):
        rk.build(data=DIGITS, encoder="mlp", objective=ObjectiveWithNeeds("encoder", "decoder"))
    assert torch.equal(random_state(), before)


def weights(seed, **options):
    model = rk.build(data=DIGITS, objective="reconstruction + contrastive", seed=seed, **{**MLP, **options})
    return model.state_dict()


@pytest.mark.parametrize(
    "latent", ["continuous(dim=3)", "vq(codes=8, dim=3)", "one-hot(classes=3, groups=2)"]
)
def test_equal_seeds_give_equal_weights_and_others_do_not(latent):
    torch.manual_seed(1)
    first = weights(0, latent=latent)
    torch.manual_seed(2)
    second, other = weights(0, latent=latent), weights(1, latent=latent)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    for part in ("factors.code.encoder", "adapters", "decoder", "objective"):
        assert any(
            not torch.equal(value, other[name]) for name, value in first.items() if name.startswith(part)
        ), part


def test_equal_seeds_give_equal_weights_in_another_process():
    code = (
        "import torch, reprkit as rk\n"
        "torch.manual_seed(3)\n"
        "model = rk.build(data='digits', encoder='mlp(width=8)', latent='vq(codes=8, dim=3)', decoder='mlp(width=8)')\n"
        "total = sum(float(value.double().abs().sum()) for value in model.state_dict().values()).hex()\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code + "print(total)"], capture_output=True, text=True, check=True
    )
    here: dict = {}
    exec(code, here)
    assert process.stdout.strip() == here["total"]


# ------------------------------------------------------------------ what build knows


def test_data_may_be_a_name_a_set_or_a_signature():
    for data in ("digits", rk.dataset("digits"), rk.dataset("digits").signature):
        model = rk.build(data=data, **MLP)
        assert model.signature.to_json() == DIGITS.to_json()
        assert model.decoder.qualified == "reprkit/mlp"
        assert model.training
    with pytest.raises(BuildError, match="takes a data set or its signature, not list"):
        rk.build(data=[1, 2], **MLP)
    with pytest.raises(UnknownPartError, match="digit"):
        rk.build(data="digit", **MLP)


def test_parts_receive_their_own_field_and_the_number_of_tokens(monkeypatch):
    seen = {}

    class RecordingDecoder(Decoder):
        def __init__(self, *, data, tokens=None):
            super().__init__()
            seen.update(data=data, tokens=tokens)
            self.in_dim = 4

        def forward(self, features, *, teacher=None, length=None):
            x = features.x.mean((1, 2))[:, None, None]
            return Decoded(x=x, likelihood="gaussian", params={"mean": x, "log_scale": x}, grid=(1,))

    signature = Signature({"x": DIGITS["x"], "pitch": Field(kind="vector", shape=(1,))})
    fine, coarse = "vit(patch=2, width=8, depth=1, heads=2)", "vit(patch=4, width=8, depth=1, heads=2)"
    factors = build._build_factors(
        {
            "fine": rk.factor(fine),
            "coarse": rk.factor(coarse),
            "pooled": rk.factor("vit(patch=1, width=8, depth=1, heads=2)", pool=True),
        },
        signature,
    )
    create = build.create
    monkeypatch.setattr(
        build,
        "create",
        lambda kind, part, **context: (
            RecordingDecoder(**context) if part == "recording" else create(kind, part, **context)
        ),
    )
    build._build_decoder("recording", factors, signature, "pitch")
    assert seen["data"]["x"] == signature["pitch"]
    assert seen["tokens"] == 16


def test_tokens_are_unknown_where_lengths_vary():
    frames = Signature({"x": Field(kind="sequence", shape=(None, 3))})
    model = rk.build(data=frames, encoder="gru(width=8)", decoder="transformer(width=8, depth=1, heads=2)")
    for length in (3, 11):
        batch = {"x": torch.randn(2, length, 3), "x_mask": torch.ones(2, length, dtype=torch.bool)}
        model(batch).total.backward()
    with pytest.raises(BuildError, match="length"):
        rk.build(data=frames, encoder="gru(width=8)", decoder="mlp")


def test_a_model_without_data():
    from torch import nn

    from reprkit.interfaces import Encoder
    from reprkit.types import Features

    class Plain(Encoder):
        def __init__(self):
            super().__init__()
            self.layer, self.out_dim = nn.Linear(4, 5), 5

        def forward(self, batch, *, keep=None):
            return Features(x=self.layer(batch["x"]).unsqueeze(1))

    model = rk.build(
        encoder=Plain(), latent="continuous(dim=3)", objective="contrastive(views='mask-elements')"
    )
    model({"x": torch.randn(4, 4)}).total.backward()
    with pytest.raises(BuildError, match="build the model with data="):
        model.sample(1)


def test_an_output_that_is_not_the_input():
    signature = Signature({**DIGITS, "speed": Field(kind="vector", shape=(2,))})
    model = rk.build(data=signature, output="speed", **MLP)
    decoded = model.decode(model.encode(signature.example(3)))
    assert decoded.x.shape == (3, 1, 2)
    assert model.to_batch(decoded)["speed"].shape == (3, 2)


# ------------------------------------------------------------------ what does not fit is refused at build


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"encoder": "mlp", "factors": {"a": None}}, BuildError, "not both"),
        ({"objective": ObjectiveWithNeeds("decoder")}, BuildError, "ObjectiveWithNeeds needs a decoder"),
        ({"objective": ObjectiveWithNeeds("encoder")}, BuildError, "ObjectiveWithNeeds needs an encoder"),
        ({"objective": ObjectiveWithNeeds()}, BuildError, "nothing to build"),
        (
            {**MLP, "objective": ObjectiveWithNeeds("encoder")},
            BuildError,
            "never uses a decoder: omit decoder=",
        ),
        ({**MLP, "objective": "masked"}, BuildError, "reprkit/mlp cannot read only some: use vit"),
        ({**MLP, "objective": "autoregressive"}, BuildError, "needs a causal decoder"),
        (
            {**MLP, "objective": ObjectiveWithNeeds("decoder", "indices")},
            BuildError,
            "reprkit/continuous is continuous",
        ),
        ({**MLP, "objective": 3}, BuildError, "takes a reference, a sum, or an Objective"),
        (
            {**MLP, "encoder": torch.nn.Linear(2, 2)},
            BuildError,
            "factor code: Linear is not a Encoder|Linear is not an",
        ),
        ({**MLP, "decoder": torch.nn.Linear(2, 2)}, BuildError, "Linear is not a Decoder"),
        ({**MLP, "latent": torch.nn.Linear(2, 2)}, BuildError, "factor code: Linear is not a Latent"),
        ({**MLP, "latent": "vq(code=3)"}, PartArgumentError, "Did you mean 'codes'"),
        ({**MLP, "latent": "vqq"}, UnknownPartError, "vqq"),
        ({**MLP, "latent": "vq(codes=open('x'))"}, ReferenceSyntaxError, "not a literal"),
        ({**MLP, "encoder": None, "factors": {"a b": rk.factor("mlp")}}, BuildError, "plain word, not 'a b'"),
        ({**MLP, "encoder": None, "factors": {"a": "mlp"}}, BuildError, "factor a: write rk.factor"),
        ({**MLP, "encoder": None, "factors": {"a": rk.factor("mlp", input="y")}}, BuildError, "no field 'y'"),
        ({**MLP, "output": "lable"}, BuildError, "Did you mean 'label'"),
        ({**MLP, "encoder": "vit(patch=3)"}, BuildError, "3"),
        ({**MLP, "encoder": "transformer(width=8, heads=3)"}, PartArgumentError, "heads"),
    ],
)
def test_incompatible_parts_raise(options, error, says):
    options = {key: value for key, value in options.items() if value is not None}
    with pytest.raises(error, match=says):
        rk.build(data=DIGITS, **options)


def test_shapes_that_do_not_fit_are_found_at_build():
    class ShortDecoder(Decoder):
        in_dim = 3

        def forward(self, features, *, teacher=None, length=None):
            x = features.x
            return Decoded(x=x, likelihood="gaussian", params={"mean": x, "log_scale": x}, grid=(1, 1))

    with pytest.raises(BuildError, match=r"shape \(2, 1, 3\) for 'x', whose target is \(2, 1, 64\)"):
        rk.build(data=DIGITS, **{**MLP, "decoder": ShortDecoder()})


def test_errors_of_a_part_name_the_part():
    class FailingDecoder(Decoder):
        in_dim = 3

        def forward(self, features, *, teacher=None, length=None):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        rk.build(data=DIGITS, **{**MLP, "decoder": FailingDecoder()})
    assert any("in decoder" in note and "FailingDecoder" in note for note in caught.value.__notes__)
    with pytest.raises(PartArgumentError) as refused:
        rk.build(data=DIGITS, **{**MLP, "latent": "vq(codes=-1)"})
    assert "while creating latent vq" in refused.value.__notes__


def test_a_batch_that_does_not_fit_the_signature_raises_at_the_first_step():
    model = rk.build(data=DIGITS, **MLP)
    good = rk.dataset("digits").batch(range(3))
    with pytest.raises(DataError, match="x"):
        model({**good, "x": good["x"] * 16})
    with pytest.raises(DataError, match="x"):
        rk.build(data=DIGITS, **MLP)({**good, "x": good["x"].squeeze(-1)})


def test_another_default_dtype_is_one_sentence(tmp_path):
    rk.build(data=DIGITS, **MLP).save(tmp_path)
    torch.set_default_dtype(torch.float64)
    try:
        for build_it in (lambda: rk.build(data=DIGITS, **MLP), lambda: rk.load(tmp_path)):
            with pytest.raises(BuildError, match="torch's default dtype is float64, and models are built in"):
                build_it()
    finally:
        torch.set_default_dtype(torch.float32)
