import math

import pytest
import torch
import torch.nn.functional as F

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.testing import ObjectiveConformance
from reprkit.testing.sample_data import SEQUENCES
from reprkit.testing.small import small_references

DATA = Signature(
    {
        "x": Field(kind="sequence", shape=(None, 5)),
        "speaker": Field(kind="label", shape=(), vocab=3),
    }
)
LATENTS = small_references("latent")


def conversion(objective, data=DATA, content="continuous(dim=4)", condition=False, label="speaker"):
    """Two factors and a decoder that is conditioned on the second."""
    bottleneck = "neck(dim=4, stride=2, width=8, depth=1, condition_dim=4)"
    return rk.build(
        data=data,
        factors={
            "content": rk.factor(
                bottleneck if condition else "instance-norm(width=8, depth=1, stride=2)",
                content,
                condition="speaker" if condition else None,
            ),
            "speaker": rk.factor("voice(width=8, depth=1, layers=1)", "continuous(dim=4)", pool=True),
        },
        decoder="adain(width=8, depth=1, stride=2, condition_dim=4)",
        objective=objective,
    )


class Converting(ObjectiveConformance):
    data = SEQUENCES

    def model(self):
        return conversion(self.fresh(), data=self.data)


class TestAutoVC(Converting):
    part = "reprkit-audio/autovc"


class TestGE2E(ObjectiveConformance):
    part = "reprkit-audio/ge2e(label='label', factor=None)"
    data = SEQUENCES


class TestSpeakerAdversary(ObjectiveConformance):
    part = "reprkit-audio/speaker-adversary(label='label', factor=None, width=8)"
    data = SEQUENCES


class TestSpeakerAdversaryOfThePaper(ObjectiveConformance):
    part = "reprkit-audio/speaker-adversary(goal='wrong', label='label', factor=None, width=8, depth=1)"
    data = SEQUENCES


class TestSpeakerAdversaryOnBits(ObjectiveConformance):
    part = "reprkit-audio/speaker-adversary(goal='wrong', label='label', factor=None, width=8)"
    latent = "binary(bits=6)"
    data = SEQUENCES


class TestGANRefine(Converting):
    part = "reprkit-audio/gan-refine(label='label', width=8, depth=2)"


def batch(size=6, length=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(size, length, 5, generator=generator),
        "speaker": torch.arange(size) % 3,
        "x_mask": torch.arange(length)[None] < torch.arange(size)[:, None] % 3 * 2 + length - 4,
    }


OBJECTIVES = [
    "autovc",
    "reconstruction + 0.5 * speaker-adversary(width=8)",
    "gan-refine(width=8, depth=2)",
]


@pytest.mark.parametrize("latent", LATENTS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_conversion_objective_works_with_any_content_latent(objective, latent):
    model, data = conversion(objective, content=latent, condition=True), batch()
    for turn in model.objective.turns:
        model.zero_grad()
        model(data, turn).total.backward()
        model.update()
        for name, value in model.named_parameters():
            assert value.grad is None or torch.isfinite(value.grad).all(), name
        if turn == "main" and "gan" not in objective:
            assert model.factors["content"].encoder.layers[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_padding_changes_no_loss(objective):
    model, data = conversion(objective).train(), batch()
    other = {**data, "x": torch.where(data["x_mask"].unsqueeze(-1), data["x"], torch.tensor(7.0))}
    for turn in model.objective.turns:
        totals = []
        for each in (data, other):
            torch.manual_seed(1)
            totals.append(model(each, turn).total)
        assert torch.allclose(totals[0], totals[1], rtol=1e-5)


def test_content_consistency_is_the_gap_between_the_codes_of_input_and_output():
    """Equation 7 by hand, over valid tokens; and equation 8's first estimate where the decoder has one."""
    model, data = conversion("autovc(content=2.0)").eval(), batch()
    codes = model.encode(data)
    decoded = model.decode(codes, length=9)
    again = model.encode({**data, "x": decoded.x})
    mask = data["x_mask"][:, ::2]  # a token is valid where its first frame is
    gap = (again["content"].z - codes["content"].z).abs().sum(-1) * mask
    terms = model(data).terms
    assert torch.allclose(terms["content"], 2 * gap.sum() / 6, rtol=1e-5)
    plain = conversion("reconstruction").eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    assert torch.allclose(terms["reconstruction"], plain(data).terms["reconstruction"])
    assert "initial" not in terms

    lstm = rk.build(
        data=DATA,
        factors={
            "content": rk.factor("neck(dim=2, stride=3, width=8)", condition="speaker"),
            "speaker": rk.factor("mlp(width=8)", input="speaker", pool=True),
        },
        decoder="conv-lstm(width=8, memory=8, postnet=2, stride=3)",
        objective="autovc",
    ).eval()
    terms = lstm(data).terms
    decoded = lstm.decode(lstm.encode(data), length=9)
    scale = decoded.params["log_scale"]
    nats = F.gaussian_nll_loss(
        decoded.params["initial"],
        data["x"],
        (2 * scale).exp().expand_as(data["x"]),
        reduction="none",
        full=True,
    )
    expected = (nats * data["x_mask"].unsqueeze(-1)).sum() / 6
    assert torch.allclose(terms["initial"], expected, rtol=1e-4)
    assert terms["initial"] != terms["reconstruction"]


def test_ge2e_matches_the_papers_equations():
    model = rk.build(
        data=DATA,
        factors={"speaker": rk.factor("d-vector(width=8, dim=4)", pool=True)},
        objective="ge2e",
    ).eval()
    data = batch(7)
    data["speaker"] = torch.tensor([0, 0, 1, 0, 1, 2, 0])  # the only one of 2 is no query
    e = F.normalize(model.encode(data)["speaker"].z[:, 0], dim=-1).detach()
    who, total = data["speaker"].tolist(), 0.0
    for j in range(7):
        if who.count(who[j]) < 2:
            continue
        scores = []
        for k in range(3):
            rows = [i for i in range(7) if who[i] == k and i != j]
            scores.append(10 * F.cosine_similarity(e[j], e[rows].mean(0), dim=0) - 5)
        total += (torch.logsumexp(torch.stack(scores), 0) - scores[who[j]]).item()
    losses = model(data)
    assert losses.total.item() == pytest.approx(total / 6, rel=1e-4)
    assert 0 <= losses.metrics["accuracy"] <= 1


def test_the_critics_turn_trains_the_critic_alone_and_the_main_turn_goes_against_it():
    model, data = conversion("reconstruction + 0.5 * speaker-adversary(goal='wrong', width=8)"), batch()
    adversary = model.objective.parts[1]
    model(data, "critic").total.backward()
    reached = {name.partition(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert reached == {"objective"}
    logits = adversary.critic(model.encode(data)["content"].z, model.encode(data)["content"].mask)
    nats = F.cross_entropy(logits, data["speaker"])
    assert torch.allclose(model(data, "critic").terms["critic"], nats)
    assert torch.allclose(model(data).terms["adversary"], -nats)
    uniform = conversion("speaker-adversary(width=8) + reconstruction")
    code = uniform.encode(data)["content"]
    verdict = uniform.objective.parts[0].critic(code.z, code.mask).softmax(-1)
    divergence = F.kl_div(verdict.log(), torch.full_like(verdict, 1 / 3), reduction="batchmean")
    assert torch.allclose(uniform(data).terms["adversary"], divergence, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_adversary_removes_the_speaker_from_a_code():
    """Speakers who differ by an offset: a critic hears them at first, and at the end no longer."""
    generator = torch.Generator().manual_seed(0)
    who = torch.arange(48) % 3
    x = 0.5 * torch.randn(48, 8, 5, generator=generator)
    x[:, :, 0] += who[:, None] - 1.0
    data = {"x": x, "x_mask": torch.ones(48, 8, dtype=torch.bool), "speaker": who}
    shares = {}
    for weight in (0, 30):
        objective = f"reconstruction + {weight} * speaker-adversary(width=16, depth=1)"
        model = rk.build(
            data=DATA,
            factors={
                "content": rk.factor(
                    "instance-norm(width=16, depth=1, stride=1, norm=False)", "continuous(dim=4)"
                ),
                "speaker": rk.factor("mlp(width=8)", input="speaker", pool=True),
            },
            decoder="adain(width=16, depth=1, stride=1, norm=False)",
            objective=objective,
        )
        loop = rk.loop(
            model,
            rk.data.Tensors(data, DATA),
            steps=150,
            batch=48,
            lr=3e-3,
            optimizers={"critic": "adam(lr=3e-3)"},
        )
        for step in loop:
            for turn in ("critic", "main"):
                losses = step.model(step.batch, turn=turn)
                step.backward(losses.total)
                step.update(turn)
        z = model.encode(data)["content"].z.mean(1).detach()
        means = torch.stack([z[who == k].mean(0) for k in range(3)])
        shares[weight] = float(means.var(0).sum() / z.var(0).sum())  # share of variance that is the speaker's
    assert shares[0] > 0.3
    assert shares[30] < 0.5 * shares[0]


@pytest.mark.slow
def test_conversions_are_refined_towards_the_target():
    """With frozen encoders, conversions are classified as the target speaker, which they were not before."""
    generator = torch.Generator().manual_seed(0)
    who = torch.arange(48) % 3
    x = 0.3 * torch.randn(48, 8, 5, generator=generator)
    x[:, :, 0] += 2 * who[:, None] - 2.0
    data = {"x": x, "x_mask": torch.ones(48, 8, dtype=torch.bool), "speaker": who}
    model = conversion("gan-refine(width=16, depth=2, adversarial=1, target=20)")
    model.factors.requires_grad_(False)
    accuracies = []
    loop = rk.loop(
        model,
        rk.data.Tensors(data, DATA),
        steps=120,
        batch=48,
        lr=3e-3,
        optimizers={"critic": "adam(lr=3e-3)"},
    )
    for step in loop:
        for turn in ("critic", "main"):
            losses = step.model(step.batch, turn=turn)
            step.backward(losses.total)
            step.update(turn)
        accuracies.append(float(losses.metrics["target_accuracy"]))
    assert sum(accuracies[:10]) / 10 < 0.6
    assert sum(accuracies[-10:]) / 10 > 0.8


def test_the_penalty_is_the_slope_of_the_verdict():
    model, data = conversion("gan-refine(width=8, depth=1, penalty=3.0)").eval(), batch()
    critic = model.objective.critic
    with torch.no_grad():
        codes = model.encode(data)
    rolled = codes | {"speaker": rk.Code(z=codes["speaker"].z.roll(-1, 0))}
    made, mask = model.decode(rolled, length=9).x.detach(), data["x_mask"]
    between = ((made + data["x"]) / 2).requires_grad_()
    slope = torch.autograd.grad(critic(between, mask).sum(), between)[0].flatten(1).norm(dim=1)
    distance = critic(made, mask) - critic(data["x"], mask)
    expected = (distance + 3 * (slope - 1).square()).mean()
    assert torch.allclose(model(data, "critic").terms["critic"], expected, rtol=1e-4, atol=1e-6)


def test_invalid_arguments_raise():
    with pytest.raises(
        BuildError, match=r"objective autovc: no factor named 'contents'; there are: .*Did you mean 'content'"
    ):
        conversion("autovc(factor='contents')")
    with pytest.raises(BuildError, match=r"label field 'who', .*\n  label fields: speaker"):
        conversion("speaker-adversary(label='who') + reconstruction")
    with pytest.raises(PartArgumentError, match="goal='right' must be 'wrong' or 'uniform'"):
        conversion("speaker-adversary(goal='right') + reconstruction")
    with pytest.raises(PartArgumentError, match="penalty=-1 must be a number of at least 0"):
        conversion("gan-refine(penalty=-1)")
    one = Signature({**DATA, "speaker": Field(kind="label", shape=(), vocab=1)})
    with pytest.raises(BuildError, match=r"at least two classes, and label field 'speaker' states vocab=1"):
        conversion("ge2e + reconstruction", data=one)
    model = conversion("gan-refine")
    with pytest.raises(DataError, match="gan-refine reads field 'speaker'"):
        model({"x": torch.randn(2, 4, 5)})
    assert math.isfinite(float(model(batch()).total))
