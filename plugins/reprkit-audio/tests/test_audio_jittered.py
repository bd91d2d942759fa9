"""Random jitter in time of a code."""

import pytest
import torch
from reprkit_audio.objectives.jittered import jitter_tokens

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import ObjectiveConformance
from reprkit.testing.sample_data import SEQUENCES
from reprkit.testing.small import small_references

DATA = Signature({"x": Field(kind="sequence", shape=(None, 3))})
LATENTS = small_references("latent")


class TestJittered(ObjectiveConformance):
    part = "reprkit-audio/jittered"
    data = SEQUENCES


class TestJitteredAlways(ObjectiveConformance):
    part = "reprkit-audio/jittered(p=1.0, reach=4)"
    latent = "vq(codes=8, dim=4)"
    data = SEQUENCES


def code(size, length, mask=None):
    """Tokens that say where they stand."""
    places = torch.arange(length, dtype=torch.float32)[None, :, None].expand(size, -1, 2)
    return rk.Code(z=places + 1000 * torch.arange(size)[:, None, None], mask=mask)


@pytest.mark.parametrize(("p", "reach"), [(0.24, 1), (0.5, 3), (1.0, 2)])
def test_tokens_are_replaced_by_neighbors_with_probability_p(p, reach):
    torch.manual_seed(0)
    given = code(40, 500)
    made = jitter_tokens(given, p, reach)
    steps = (made.z - given.z)[..., 0]
    assert steps.abs().max() == reach
    inner = steps[:, reach:-reach]  # at the ends some have nowhere to come from
    assert (inner != 0).float().mean() == pytest.approx(p, abs=0.02)
    for step in (*range(-reach, 0), *range(1, reach + 1)):
        assert (inner == step).float().mean() == pytest.approx(p / (2 * reach), abs=0.02)


def test_replacements_come_from_valid_tokens_only():
    torch.manual_seed(0)
    lengths = torch.tensor([7, 3, 1])
    mask = torch.arange(7)[None] < lengths[:, None]
    made = jitter_tokens(code(3, 7, mask), 1.0, 2)
    places = made.z[..., 0] - 1000 * torch.arange(3)[:, None]
    assert (places >= 0).all()
    assert (places <= lengths[:, None] - 1)[mask].all()
    assert made.mask is mask


@pytest.mark.parametrize("latent", LATENTS)
def test_any_latent_is_jittered_in_training_only(latent):
    model = rk.build(
        data=DATA, encoder="gru(width=8)", latent=latent, decoder="gru(width=8, causal=False)",
        objective="jittered(p=1.0, reach=2)",
    )  # fmt: skip
    batch = {"x": torch.randn(4, 9, 3)}
    losses = model(batch)
    losses.total.backward()
    assert all(torch.isfinite(value.grad).all() for value in model.parameters() if value.grad is not None)
    assert any(
        value.grad is not None and value.grad.any() for value in model.factors["code"].encoder.parameters()
    )
    plain = rk.build(data=DATA, encoder="gru(width=8)", latent=latent, decoder="gru(width=8, causal=False)")
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(batch).total, plain.eval()(batch).total)


@pytest.mark.slow
def test_jittered_codes_change_less_often():
    """Frames that come in fours with noise on each: with jitter a code stays while they last."""

    def changes(objective):
        torch.manual_seed(0)
        states = torch.randint(4, (64, 8)).repeat_interleave(4, 1)
        x = torch.eye(4)[states][..., :3] + 0.5 * torch.randn(64, 32, 3)
        model = rk.build(
            data=Signature({"x": Field(kind="sequence", shape=(32, 3))}), encoder="gru(width=16)", latent="vq(codes=8, dim=8)",
            decoder="gru(width=16, causal=False)", objective=objective, seed=0,
        )  # fmt: skip
        rate = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(150):
            rate.zero_grad()
            model({"x": x}).total.backward()
            rate.step()
            model.update()
        index = model.eval().encode({"x": x})["code"].indices[..., 0]
        return (index[:, 1:] != index[:, :-1]).float().mean()

    assert changes("jittered(p=0.6, reach=2)") < 0.85 * changes("reconstruction")


def test_invalid_arguments_raise():
    with pytest.raises(PartArgumentError, match="p=0 must be a number above 0 and up to 1"):
        rk.create("objective", "jittered(p=0)")
    with pytest.raises(PartArgumentError, match="reach"):
        rk.create("objective", "jittered(reach=0)")
    with pytest.raises(BuildError, match="factor who is pooled to one token"):
        rk.build(
            data=DATA, factors={"who": rk.factor("gru(width=8)", "continuous(dim=4)", pool=True)}, decoder="gru(width=8)",
            objective="jittered",
        )  # fmt: skip
