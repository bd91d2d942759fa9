"""Two processes compute what one does: loss, every gradient, weights and buffers, for every latent and objective."""

import itertools

import pytest
import torch
from torch import Tensor

import reprkit as rk
from reprkit.data.loading.order import Order
from reprkit.registry.registry import Registry
from reprkit.runs.reader import read_metrics
from reprkit.testing.pool import together
from reprkit.testing.small import small_references
from reprkit.utils.collectives import sum_over_ranks, world_size

VQ, SPLIT_VQ = "vq(codes=16, dim=4)", "vq(codes=8, dim=3, codebooks=2, update='gradient')"
LATENTS = [
    *small_references("latent"),
    *(VQ, SPLIT_VQ, "vq(codes=16, dim=4, cosine=True)", "continuous(dim=6, l1=0.1)"),
]


def accepts(objective, latent):
    """Whether the objective accepts the latent: contractive no discrete code, others what their ``needs`` name."""
    part = rk.create("latent", latent)
    if objective == "contractive":
        return part.vocab is None
    if not rk.create("objective", objective).needs & {"log_prob", "deviation"} <= part.provides:
        return False
    return objective != "rbm"  # it has three weights, and no use for a latent's


CASES = [
    (latent, found.name)
    for latent, found in itertools.product(LATENTS, Registry(installed=False).specs("objective"))
    if accepts(found.name, latent)
]
QUICK = {
    ("gaussian(dim=3)", "masked"),
    (VQ, "contrastive"),
    ("residual-vq(codes=6, layers=2, dim=3)", "contrastive"),
}
assert set(CASES) >= QUICK
VIT = "vit(patch=4, width=16, depth=1, heads=2)"
STEPS, BATCH = 2, 32
TOLERANCE = 4e-6  # of the largest value of a tensor, or of 1: processors differ in the order of summation (2.5e-6 with AMX)
# What is a difference of large sums is measured by these: the gradient of the likelihood's scale (64 pixels, times GAIN of the
# decoder's head), that of codes which k-means has just put into the mean of their vectors, and that of an entropy model.
SUMMANDS = {
    "gradient of decoder.head.raw_scale": 5.0 * 64,
    "gradient of factors.code.latent.codebook.table": 4.0,
    "gradient of factors.code.latent.entropy.weights.3": 4.0,
    "gradient of factors.code.latent.entropy.biases.3": 4.0,
    "gradient of factors.one.latent.entropy.weights.3": 4.0,
    "terms policy": 64.0,  # the advantage of a draw is a difference of the nats of 64 pixels
}


def factors_of(latent, objective):
    """Return the factors of an objective that needs several; None for others."""
    if objective == "diffusion":
        time = rk.factor("mlp(width=8)", "continuous(dim=4)", input="time", pool=True)
        return {"code": rk.factor(VIT, latent), "time": time}
    if objective == "across":
        return {"one": rk.factor(VIT, latent), "two": rk.factor("mlp(width=8)", "continuous(dim=4)")}
    return None


def built(latent, objective, decoder=None):
    made = rk.create("objective", objective) if "+" not in objective else None
    needs = {"decoder"} if made is None or made.is_penalty else made.needs
    chosen = (decoder or ("gru(width=12)" if "causal" in needs else VIT)) if "decoder" in needs else None
    data = rk.dataset("digits").subset(range(96))
    factors = factors_of(latent, objective)
    if factors is not None:
        return data, rk.build(data=data, factors=factors, decoder=chosen, objective=objective)
    return data, rk.build(data=data, encoder=VIT, latent=latent, decoder=chosen, objective=objective)


def trained(rank, latent, objective, out=None, forwards=1):
    """Two steps on this process: all that must not depend on the number of processes."""
    torch.set_num_threads(1)
    data, model = built(latent, objective)
    seen: dict[str, Tensor] = {}
    given = {
        "optimizer": "sgd(momentum=0.9)",
        # Adam divides a gradient by its size, so that one near 0 is all rounding.
        "optimizers": {turn: "sgd(momentum=0.9)" for turn in model.objective.turns if turn != "main"},
        "lr": 1e-3,
        "clip": 5.0,
        "log_every": 1,
        "out": out,
        "progress": False,
    }
    for step in rk.loop(model, data, steps=STEPS, batch=BATCH, device="cpu", **given):
        for turn in model.objective.turns:
            total = torch.zeros(())
            for _ in range(forwards):
                losses = step.model(step.batch, turn)
                total = total + losses.total
            where = f"of turn {turn}, step {step.index}"
            seen[f"loss {where}"] = sum_over_ranks(total.detach()) / world_size()
            for kind in ("terms", "metrics"):
                for name, value in getattr(losses, kind).items():
                    seen[f"{kind} {name} {where}"] = sum_over_ranks(value.float()) / world_size()
            step.backward(total)
            for name, value in model.named_parameters():
                if value.grad is not None:
                    seen[f"gradient of {name} {where}"] = value.grad.clone()
            step.update(turn)
    for name, value in (
        *model.named_parameters(),
        *model.named_buffers(),
    ):  # usage's windows too, which are not saved
        seen[name] = value.detach().clone()
    return seen


def agree(one, other):
    assert one.keys() == other.keys()
    assert sum(name.startswith("gradient") for name in one) > 10
    far = []
    for name, value in one.items():
        if not value.numel():
            continue
        value, found = value.double(), other[name].double()
        scale = max(SUMMANDS.get(name.partition(" of turn")[0], 1.0), float(value.abs().max()))
        gap = float((value - found).abs().max())
        if not gap <= TOLERANCE * scale:
            far.append(f"{name}: {gap:.2e} of {scale:.2e}")
    assert not far, "\n".join(far)


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("latent", "objective"),
    [pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow) for case in CASES],
)
def test_two_processes_equal_one(latent, objective):
    alone = trained(0, latent, objective)
    for seen in together(2, trained, latent, objective):
        agree(seen, alone)


@pytest.mark.ranks
@pytest.mark.parametrize("latent", [VQ, "gaussian(dim=3)", SPLIT_VQ])
def test_two_forwards_a_step_and_the_metrics_written_down(latent, tmp_path):
    alone = trained(0, latent, "denoising + 0.1 * reconstruction", tmp_path / "one", 2)
    for seen in together(2, trained, latent, "denoising + 0.1 * reconstruction", tmp_path / "two", 2):
        agree(seen, alone)
    for one, two in zip(read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
        for kind in ("terms", "metrics"):
            assert two[kind] == pytest.approx(one[kind], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_an_epoch_visits_the_same_examples_however_many_processes(ranks):
    """Also across a resume on another number of processes: a step's examples do not depend on it."""
    whole = Order(1003, 36, seed=5)
    parts = [Order(1003, 36, seed=5, ranks=ranks, rank=rank) for rank in range(ranks)]
    for epoch in range(3):
        visited = []
        for step in range(epoch * whole.per_epoch, (epoch + 1) * whole.per_epoch):
            joined = torch.cat([part.at(step) for part in parts])
            assert torch.equal(joined, whole.at(step))
            visited += joined.tolist()
        assert len(visited) == len(set(visited)) == 1003 // 36 * 36
        assert set(visited) <= set(range(1003))
