"""Objective cycle: the contract, its losses against a plain computation, and the models that it refuses."""

import pytest
import torch

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.testing import ObjectiveConformance

IMAGE = Field(kind="image", shape=(16, 16, 1), range=(0.0, 1.0))
FLAT = "flat(likelihood='laplace', scale=0.05)"


@pytest.mark.slow
class TestCycle(ObjectiveConformance):
    part = "reprkit-vision/cycle(width=8, depth=1)"


def small_model(objective="cycle(width=4)", fields=(IMAGE, IMAGE), reads=("back", "there")):
    return rk.build(
        data=Signature(dict(zip("ab", fields, strict=True))),
        factors={
            "there": rk.factor("unet(width=8, depth=1)", "continuous(dim=1)", input="a"),
            "back": rk.factor("unet(width=8, depth=1)", "continuous(dim=1)", input="b"),
        },
        decoder={"a": rk.output(FLAT, reads=reads[0]), "b": rk.output(FLAT, reads=reads[1])},
        objective=objective,
        seed=0,
    )


def batch(count=3):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(count, 16, 16, 1, generator=generator) for name in "ab"}


def translate(model, pictures, to):
    """The output and the factor of the other field, by hand."""
    output = model.outputs[to]
    codes = model.encode({"b" if to == "a" else "a": pictures}, factors=output.reads, in_range=False)
    return model.decode(codes, output=to).x.reshape(pictures.shape)


def nats(found, target):
    """Of a Laplace distribution of scale .05, summed over a picture and averaged over pictures."""
    return ((found - target).abs() / 0.05 + torch.tensor(0.1).log()).sum() / len(target)


@torch.no_grad()
def test_losses_equal_the_papers():
    model, x = small_model("cycle(identity=0.25, adversarial=3.0, width=4)").eval(), batch()
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    losses, critics = model(x), model.objective.critic
    made = {"b": translate(model, x["a"], "b"), "a": translate(model, x["b"], "a")}
    cycle = nats(translate(model, made["b"], "a"), x["a"]) + nats(translate(model, made["a"], "b"), x["b"])
    identity = nats(translate(model, x["b"], "b"), x["b"]) + nats(translate(model, x["a"], "a"), x["a"])
    fooled = sum((critics[name](made[name]) - 1).square().mean() for name in "ab")
    torch.testing.assert_close(losses.terms["cycle"], cycle)
    torch.testing.assert_close(losses.terms["identity"], 0.25 * identity)
    torch.testing.assert_close(losses.terms["adversarial"], 3 * 256 * fooled)
    told = sum(
        (critics[name](x[name]) - 1).square().mean() + critics[name](made[name]).square().mean()
        for name in "ab"
    )
    torch.testing.assert_close(model(x, "critic").terms["critic"], 128 * told)


def test_each_turn_trains_its_own_part():
    model, x = small_model(), batch()
    for turn, trained in {"main": False, "critic": True}.items():
        model.zero_grad(set_to_none=True)
        model(x, turn).total.backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == (("critic" in name) == trained), (turn, name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reads": ("there", "back")}, "each of which reads the one factor of the other's field"),
        ({"fields": (IMAGE, Field(kind="image", shape=(8, 16, 1), range=(0.0, 1.0)))}, "of one shape"),
        ({"objective": "cycle(depth=4)"}, "at least 32 pixels"),
    ],
)
def test_other_models_are_refused(changes, message):
    with pytest.raises(BuildError, match=message):
        small_model(**changes)


def test_one_output_is_refused():
    with pytest.raises(BuildError, match="two outputs"):
        rk.build(
            data=Signature({"x": IMAGE}),
            encoder="conv",
            latent="continuous",
            decoder="conv",
            objective="cycle",
        )
