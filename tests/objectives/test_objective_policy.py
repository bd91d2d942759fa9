"""Policy gradient against enumeration, and its baselines against formulas."""

import itertools

import pytest
import torch
from torch import nn

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.interfaces import Latent
from reprkit.latents.functional import draw_noise
from reprkit.layers.sequence_classifier import SequenceClassifier
from reprkit.testing import ObjectiveConformance
from reprkit.types import Code

DATA = Signature({"x": Field(kind="vector", shape=(3,))})


class Coins(Latent):
    """Two bits drawn independently; no gradient but that of ``log_prob``."""

    provides = frozenset({"log_prob"})

    def __init__(self):
        super().__init__(in_dim=2, out_dim=2, vocab=(2, 2))
        self.bias = nn.Parameter(torch.tensor([0.4, -0.7]))

    def forward(self, features):
        logits = 0.0 * features.x + self.bias
        noise = draw_noise(torch.rand, logits) if self.training else torch.full_like(logits, 0.5)
        chosen = (noise < logits.sigmoid()).float().detach()
        log_prob = -nn.functional.binary_cross_entropy_with_logits(logits, chosen, reduction="none").sum(-1)
        return Code.of(features, z=chosen, indices=chosen.long(), log_prob=log_prob)

    def embed(self, indices):
        return indices.float()


def make(latent="binary(bits=4)", **arguments):
    arguments = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return rk.build(
        data=DATA,
        encoder="mlp(widths=(8,))",
        latent=latent,
        decoder="mlp(widths=(8,), scale=1.0)",
        objective=f"policy({arguments})",
    )


@pytest.mark.parametrize(
    ("baseline", "samples"), [("others", 2), ("others", 5), ("greedy", 1), ("greedy", 3), ("none", 1)]
)
def test_the_gradient_is_that_of_the_expected_reward(baseline, samples):
    """Over 6,000 examples with equal data, against the sum over all four codes."""
    model = make(Coins(), baseline=baseline, samples=samples).train()
    x = torch.tensor([1.0, -2.0, 0.5])
    codes = torch.tensor(list(itertools.product((0.0, 1.0), repeat=2)))
    with torch.no_grad():
        nats = model.score({"x": x.expand(4, -1)}, {"code": Code(z=codes[:, None])}).per_example
    bias = model.latent().bias
    log_p = -nn.functional.binary_cross_entropy_with_logits(bias.expand(4, -1), codes, reduction="none").sum(
        -1
    )
    (exact,) = torch.autograd.grad((log_p.exp() * nats).sum(), bias)
    torch.manual_seed(0)
    total, count = model.objective(model, {"x": x.expand(6000, -1)})["policy"]
    (found,) = torch.autograd.grad(total / count, bias)
    spread = {"none": 0.3, "greedy": 0.1, "others": 0.1}[baseline]
    torch.testing.assert_close(found, exact, atol=spread * float(nats.std()), rtol=0.0)
    assert exact.abs().max() > 2 * spread * nats.std() or baseline == "none"


def test_baselines_are_those_of_the_formulas():
    model, batch = make(samples=3, baseline="others"), {"x": torch.randn(4, 3)}
    torch.manual_seed(1)
    codes = model.encode(batch, draws=3)
    nats = model.score(batch, codes, draws=3).per_example.detach().view(4, 3)
    log_prob = codes.log_prob.sum(1).view(4, 3)
    for baseline in ("others", "greedy", "none"):
        objective = make(samples=3, baseline=baseline).objective
        torch.manual_seed(1)
        losses = objective(model, batch)
        if baseline == "others":
            expected = torch.stack([nats[:, [j for j in range(3) if j != i]].mean(1) for i in range(3)], 1)
        elif baseline == "greedy":
            with torch.no_grad():
                expected = model.eval().score(batch).per_example[:, None].expand(-1, 3)
            model.train()
        else:
            expected = torch.zeros(4, 3)
        torch.testing.assert_close(losses["policy"][0], ((nats - expected) * log_prob).sum())
        torch.testing.assert_close(losses["reconstruction"][0], nats.sum())
        assert losses["policy"][1] == 12


def test_wrong_settings_are_refused():
    with pytest.raises(PartArgumentError, match="baseline='others' compares the samples"):
        make(samples=1)
    with pytest.raises(BuildError, match="objective reprkit/policy needs a latent that provides log_prob"):
        make("vq(codes=4, dim=2)")


@pytest.mark.ranks
class TestGreedy(ObjectiveConformance):
    part = "policy(samples=2, baseline='greedy')"


@pytest.mark.ranks
class TestOthers(ObjectiveConformance):
    part = "policy(samples=3)"


def test_a_critic_without_convolutions_is_linear_in_the_mean():
    torch.manual_seed(0)
    critic = SequenceClassifier(3, 16, 0, 2)
    z, mask = torch.randn(2, 4, 3), torch.tensor([[True] * 4, [True, True, False, False]])
    means = torch.stack([z[0].mean(0), z[1, :2].mean(0)])
    torch.testing.assert_close(critic(z, mask), means @ critic.last.weight.T + critic.last.bias)
    assert sum(each.numel() for each in critic.parameters()) == 3 * 2 + 2


def test_a_small_code_does_not_hide_from_a_standardized_critic():
    """The code is the label times a hundred-thousandth: a critic learns it only if it reads the code standardized."""
    torch.manual_seed(0)
    label = torch.arange(2).repeat(32)
    data = rk.dataset({"x": torch.stack([label - 0.5, torch.randn(64)], 1) * 1e-5, "label": label})
    loss = {}
    for standardize in (False, True):
        model = rk.build(
            data=data,
            factors={"x": rk.factor("flat", "continuous")},
            objective=f"adversary(depth=0, standardize={standardize})",
        )
        critic = torch.optim.Adam(model.objective.parameters(), lr=0.1)
        for _ in range(20):
            losses = model(data.batch(range(64)), "critic")
            critic.zero_grad()
            losses.total.backward()
            critic.step()
        loss[standardize] = losses.total.item()
    assert loss[True] < 0.2 < 0.6 < loss[False]


@pytest.mark.slow
@pytest.mark.parametrize("options", ["depth=1", "depth=0, standardize=True"])
def test_the_adversary_removes_the_label(options):
    """A code of two numbers, of which one is the label: the adversary's encoder tells less of it than a plain one's."""
    torch.manual_seed(0)
    label = torch.arange(2).repeat(64)
    x = torch.stack([label * 2.0 - 1, torch.randn(128), torch.randn(128)], 1)
    data = rk.dataset({"x": x, "label": label})
    accuracy = {}
    for weight in (0, 30):
        model = rk.build(
            data=data,
            encoder="mlp(widths=(16,))",
            latent="continuous(dim=2)",
            decoder="mlp(widths=(16,), scale=1.0)",
            objective=f"reconstruction + {weight} * adversary(width=16, {options})",
        )
        for step in rk.loop(
            model, data, steps=120, batch=64, lr=1e-2, progress=False, optimizers={"critic": "adam(lr=0.01)"}
        ):
            for turn in ("critic", "main"):
                losses = step.model(step.batch, turn)
                step.backward(losses.total)
                step.update(turn)
        accuracy[weight] = rk.evaluate(model, data, "linear-probe", fit_on=data)["linear-probe"]["accuracy"]
    assert accuracy[0] > 0.95
    assert accuracy[30] < 0.8, accuracy
