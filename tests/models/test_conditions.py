"""Factors conditioned on others, and decoders conditioned on pooled factors."""

import pytest
import torch
from torch import nn

import reprkit as rk
from reprkit import interfaces
from reprkit.data import Field, Signature
from reprkit.errors import BuildError
from reprkit.types import Decoded, Features

DATA = Signature({"x": Field(kind="sequence", shape=(6, 4), form="frames(of=4)")})


class ConditionedEncoder(interfaces.Encoder):
    """A linear map of each frame, plus one of the condition."""

    condition_dim = 3

    def __init__(self, conditioned: bool = True):
        super().__init__()
        self.condition_dim = 3 if conditioned else None
        self.frame, self.project, self.out_dim, self.calls = nn.Linear(4, 5), nn.Linear(3, 5), 5, 0

    def forward(self, batch, *, keep=None, condition=None):
        self.calls += 1
        x = self.frame(batch["x"])
        return Features(x=x if condition is None else x + self.project(condition).unsqueeze(1), grid=(6,))

    def count(self, batch):
        return 6

    def grid(self, batch):
        return (6,)


class ConditionedDecoder(interfaces.Decoder):
    """Frames from tokens, moved by the condition."""

    def __init__(self):
        super().__init__()
        self.in_dim, self.condition_dim, self.seen = 5, 2, []
        self.frame, self.move = nn.Linear(5, 4), nn.Linear(2, 4)

    def forward(self, features, *, condition=None, teacher=None, length=None):
        self.seen.append((features, condition))
        x = self.frame(features.x)
        x = x if condition is None else x + self.move(condition).unsqueeze(1)
        return Decoded(
            x=x, likelihood="gaussian", params={"mean": x, "scale": torch.ones(())}, grid=(x.shape[1],)
        )


def conversion(**content):
    factors = {
        "content": rk.factor(ConditionedEncoder(), "continuous(dim=2)", condition="speaker", **content),
        "speaker": rk.factor(ConditionedEncoder(conditioned=False), "gaussian(dim=7)", pool=True),
    }
    return rk.build(data=DATA, factors=factors, decoder=ConditionedDecoder())


def batch(size=3, seed=0):
    return {"x": torch.randn(size, 6, 4, generator=torch.Generator().manual_seed(seed))}


def test_the_encoder_reads_the_other_factors_code():
    model, data = conversion().eval(), batch()
    codes = model.encode(data)
    content, speaker = model.factors["content"], model.factors["speaker"]
    condition = content.conditioner(codes["speaker"].z.mean(1))
    x = content.adapter(content.encoder.frame(data["x"]) + content.encoder.project(condition).unsqueeze(1))
    assert torch.allclose(codes["content"].z, x, atol=1e-6)
    assert tuple(content.conditioner.weight.shape) == (3, speaker.latent.out_dim)
    assert torch.equal(model.encode(data, factors=["content"])["content"].z, codes["content"].z)
    assert list(model.encode(data, factors=["content"])) == ["content"]


def test_each_draw_is_conditioned_on_its_own_draw():
    model, data = conversion(), batch()
    codes = model.encode(data, draws=2)
    content, speaker = model.factors["content"], codes["speaker"].z
    assert speaker.shape[0] == codes["content"].z.shape[0] == 6
    condition = content.conditioner(speaker.mean(1))
    frames = content.encoder.frame(data["x"]).repeat_interleave(2, 0)
    expected = content.adapter(frames + content.encoder.project(condition).unsqueeze(1))
    assert torch.allclose(codes["content"].z, expected, atol=1e-6)
    assert not torch.equal(speaker[0], speaker[1])


def test_the_pooled_factor_conditions_the_decoder():
    model = conversion().eval()
    one, two = model.encode(batch(seed=1)), model.encode(batch(seed=2))
    model.decode(one | {"speaker": two["speaker"]})
    features, condition = model.decoder.seen[-1]
    assert torch.equal(features.x, model.adapters["content"](one["content"].z))
    assert torch.equal(condition, model.adapters["speaker"](two["speaker"].z).mean(1))
    assert tuple(condition.shape) == (3, 2)


def test_where_all_factors_are_pooled_they_are_the_tokens():
    factors = {
        "a": rk.factor(ConditionedEncoder(conditioned=False), pool=True),
        "b": rk.factor(ConditionedEncoder(conditioned=False), pool=True),
    }
    model = rk.build(
        data=Signature({"x": Field(kind="sequence", shape=(1, 4))}),
        factors={name: rk.factor("mlp(width=8)", each.latent, pool=True) for name, each in factors.items()},
        decoder=ConditionedDecoder(),
    ).eval()
    codes = model.encode({"x": torch.randn(2, 1, 4)})
    model.decode(codes)
    features, condition = model.decoder.seen[-1]
    assert condition is None
    assert torch.allclose(features.x, model.adapters["a"](codes["a"].z) + model.adapters["b"](codes["b"].z))


def test_in_one_forward_each_factor_is_encoded_once_and_its_losses_count_once():
    class Twice(interfaces.Objective):
        needs = frozenset({"encoder", "decoder"})

        def forward(self, model, batch, turn="main"):
            first = model.encode(batch, factors=["content"])  # the speaker on the way
            both = model.encode(batch)
            assert both["content"] is first["content"]
            return {"nothing": both["content"].z.sum() * 0}

    model = conversion()
    model.objective = Twice()
    for path in model.factors.values():
        path.encoder.calls = 0
    losses = model(batch())
    assert [path.encoder.calls for path in model.factors.values()] == [1, 1]
    kl = losses.terms["speaker.kl"]
    model.eval()
    twice = model(batch()).terms["speaker.kl"]
    assert torch.allclose(kl, twice)  # a mean's divergence is no draw's
    model.train()
    (losses.total).backward()
    assert model.factors["content"].conditioner.weight.grad is not None


def test_gradients_go_through_the_condition():
    model = conversion()
    model.decode(model.encode(batch())).x.square().sum().backward()
    assert model.factors["speaker"].encoder.frame.weight.grad.abs().sum() > 0
    assert model.factors["content"].conditioner.weight.grad.abs().sum() > 0


def test_invalid_conditions_raise():
    with pytest.raises(BuildError, match="takes no condition"):
        rk.build(
            data=DATA,
            factors={
                "content": rk.factor("gru(width=4)", condition="speaker"),
                "speaker": rk.factor("gru(width=4)", pool=True),
            },
            decoder="gru(width=4)",
        )
    with pytest.raises(BuildError, match="that does not exist: content on 'speakr'"):
        rk.build(
            data=DATA,
            factors={"content": rk.factor(ConditionedEncoder(), condition="speakr")},
            decoder=ConditionedDecoder(),
        )
    with pytest.raises(BuildError, match="conditioned on each other"):
        rk.build(
            data=DATA,
            factors={
                "a": rk.factor(ConditionedEncoder(), condition="b"),
                "b": rk.factor(ConditionedEncoder(), condition="a"),
            },
            decoder=ConditionedDecoder(),
        )


def test_conditions_are_saved_with_the_model(tmp_path, registry):
    class Plugin:
        @rk.hookimpl
        def reprkit_encoders(self):
            yield rk.Spec("conditioned", f"{__name__}:ConditionedEncoder")

        @rk.hookimpl
        def reprkit_decoders(self):
            yield rk.Spec("conditioned", f"{__name__}:ConditionedDecoder")

    registry.register(Plugin(), name="conditions-test")
    model = conversion().eval()
    model.save(tmp_path / "model")
    again = rk.load(tmp_path / "model")
    assert again.factors["content"].condition == "speaker"
    assert again.signature["x"].form == "frames(of=4)"
    codes = model.encode(batch())
    assert torch.equal(again.decode(again.encode(batch())).x, model.decode(codes).x)


def test_a_form_is_in_the_json_only_where_there_is_one():
    assert "form" not in Signature({"x": Field(kind="vector", shape=(2,))}).to_json()["x"]
    assert Signature.from_json(DATA.to_json())["x"] == DATA["x"]
