"""For each check of a latent a deliberately wrong one that exactly this check catches."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from catching import failures, titles
from torch import nn

from reprkit.interfaces import Latent
from reprkit.registry.create import create
from reprkit.registry.registry import Registry, using_registry
from reprkit.testing import LatentConformance
from reprkit.types import Code
from reprkit.utils.collectives import sum_over_ranks

pytestmark = pytest.mark.ranks


class Good(Latent):
    """Three learned bits with a loss, a price, statistics and a prior: nothing is wrong with it."""

    def __init__(self, scale: Any = 1.0, precision: str = "float32"):
        super().__init__(in_dim=3, out_dim=3, vocab=(2, 2, 2), precision=precision)
        self.scale = scale
        self.linear = nn.Linear(3, 3)
        self.register_buffer("share", torch.zeros(3))
        self.register_buffer("seen", torch.zeros(4), persistent=False)

    def forward(self, features):
        x = features.x if features.mask is None else features.x.masked_fill(~features.mask.unsqueeze(-1), 0)
        logits = self.linear(x)
        weight = torch.ones_like(x[..., :1]) if features.mask is None else features.mask.unsqueeze(-1)
        hard = torch.where(logits > 0, 1.0, -1.0)
        soft = torch.tanh(logits)
        if self.training:
            on = ((logits > 0) * weight).sum((0, 1))
            self.seen += torch.cat([on, weight.sum().view(1)]).detach()
        return Code.of(
            features,
            z=self.finish(soft + (hard - soft).detach(), features),
            indices=(logits > 0).long(),
            bits=self.price(weight),
            losses={"size": (logits.square() * self.counted(weight)).sum() / len(x)},
            metrics={"on": hard.mean().detach() if features.mask is None else torch.zeros(())},
        )

    def finish(self, z, features):
        return z

    def price(self, weight):
        return 3 * weight.sum((1, 2))

    def counted(self, weight):
        return weight

    def together(self, seen):
        return sum_over_ranks(seen)

    def embed(self, indices):
        return indices * 2.0 - 1

    def prior(self, shape, generator=None):
        return self.embed(torch.randint(2, (*shape, 3), generator=generator))

    def log_prior(self, code):
        nats = torch.full(code.z.shape[:2], -3 * math.log(2))
        return nats if code.mask is None else nats * code.mask

    def update(self):
        total = self.together(self.seen)
        self.share.copy_(total[:3] / total[3].clamp(min=1))
        self.seen.zero_()


class Stateful(Good):
    shift = 0.0

    def finish(self, z, features):
        return z + self.shift

    def embed(self, indices):
        return super().embed(indices) + self.shift

    def update(self):
        super().update()
        self.shift += 0.25


class Growing(Good):
    def __init__(self):
        super().__init__()
        self.register_buffer("history", torch.zeros(0))

    def update(self):
        super().update()
        self.history = torch.cat([self.history, self.share.mean().view(1)])

    def _load_from_state_dict(self, state, prefix, *rest):
        self.history = torch.zeros_like(state[prefix + "history"])
        super()._load_from_state_dict(state, prefix, *rest)


class PriceOfTokens(Good):
    def price(self, weight):
        return 3.0 * weight.sum(2)


class Quiet(Good):
    def forward(self, features):
        code = super().forward(features)
        return replace(code, log_prob=torch.zeros(code.z.shape[:2]))


class CountsPadding(Good):
    def counted(self, weight):
        return torch.ones_like(weight)

    def forward(self, features):
        code = super().forward(features)
        if features.mask is not None:
            code.losses["size"] = features.x.square().mean()
        return code


class Idle(Good):
    def __init__(self):
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(3))


class Restless(Good):
    def forward(self, features):
        code = super().forward(features)
        if self.training:
            return code
        indices = code.indices ^ (torch.rand(code.indices.shape) < 0.5)
        return replace(code, indices=indices, z=self.embed(indices) + 0 * code.z)


class Unfaithful(Good):
    def embed(self, indices):
        return indices * 1.0


class DeafPrior(Good):
    def prior(self, shape, generator=None):
        return self.embed(torch.randint(2, (*shape, 3)))


class PricesPadding(Good):
    def log_prior(self, code):
        return super().log_prior(replace(code, mask=None))


class NeedsTwoRows(Good):
    def finish(self, z, features):
        return z / (features.grid[0] - 1) if features.grid else z


class HalfPrecision(Good):
    def finish(self, z, features):
        return (z.half() * 1e5).float() / 1e5 if torch.is_autocast_enabled("cpu") else z


class Alone(Good):
    def together(self, seen):
        return seen


class Undeclared(Good):
    def __init__(self, scale=1.0):
        super().__init__(scale)


class Late(Good):
    """Its constructor is made after the class, so nothing checks it."""


def _late(self, scale: float = 1.0):
    Good.__init__(self)


Late.__init__ = _late


class Case(LatentConformance):
    wrong = "Good"
    options: dict = {}

    def make(self):
        return globals()[self.wrong](**self.options)


class TakesAPartUnsaid(Good):
    def __init__(self, inner: object = None):
        super().__init__()
        object.__setattr__(self, "inner", inner)  # no submodule: its weights are not what this is about


class TakesAPart(Good):
    def __init__(self, inner: str | Latent | None = None):
        super().__init__()
        object.__setattr__(self, "inner", inner)


WRONG = {
    "parts in arguments are annotated": (
        "TakesAPartUnsaid",
        {"inner": create("latent", "continuous(dim=3)")},
        "its argument inner holds a latent, and the source annotates it 'object': write inner: str | Latent",
    ),
    "arguments are declared": ("Undeclared", {}, "argument scale of Undeclared has no annotation"),
    "arguments round trip through json": (
        "Good",
        {"scale": torch.ones(1)},
        "an argument of Good is not JSON",
    ),
    "weights round trip through disk": ("Stateful", {}, "is there state outside of the buffers?"),
    "buffers keep their shape": ("Growing", {}, "change their shape: history"),
    "shapes and types": ("PriceOfTokens", {}, "bits is (1, 1), not (1,)"),
    "masked tokens have no effect": ("CountsPadding", {}, "loss 'size': differs by up to"),
    "gradients reach every parameter": ("Idle", {}, "no gradient reaches spare"),
    "evaluation is deterministic": ("Restless", {}, "z in evaluation: differs"),
    "embed reproduces the code": ("Unfaithful", {}, "embed(indices) and z in evaluation: differs"),
    "prior has the shape of codes": ("DeafPrior", {}, "two draws from the prior under one generator"),
    "log prior is finite and masked": ("PricesPadding", {}, "log_prior counts padded tokens"),
    "trains with odd widths": ("NeedsTwoRows", {}, "the loss is"),
    "bf16 autocast": ("HalfPrecision", {"precision": "any"}, "z is not finite under bf16 autocast"),
    "two ranks equal one process": ("Alone", {}, "rank 0 of two and one process: state share: differs"),
}


def case(name, options=None):
    made = Case()
    made.wrong, made.options = name, options or {}
    return made


def test_nothing_is_wrong_with_the_good_one():
    assert failures(case("Good")) == {}
    assert failures(case("TakesAPart", {"inner": create("latent", "continuous(dim=3)")}), ranks=False) == {}


@pytest.mark.parametrize("check", WRONG)
def test_exactly_this_check_catches_it(check):
    name, options, reason = WRONG[check]
    found = failures(case(name, options))
    assert set(found) == {check}, found
    assert reason in found[check]


def test_a_constructor_that_nothing_checks_is_caught():
    found = failures(case("Late"))
    assert set(found) == {"arguments are declared"}
    assert "scale='no such value' is outside of" in found["arguments are declared"]


def test_a_plugin_module_that_imports_torch(site):
    hooks = """
        import torch
        from reprkit import Spec, hookimpl

        @hookimpl
        def reprkit_latents():
            yield Spec("plain", "reprkit.latents.continuous:Continuous")
    """
    site.add("slow-one", hooks)
    made = LatentConformance()
    made.part = "slow-one/plain(dim=3)"
    with using_registry(Registry()):
        found = failures(made, ranks=False)
    assert set(found) == {"plugin module imports without torch"}
    assert "importing slow_one_plugin loads torch" in found["plugin module imports without torch"]


def test_every_check_is_tried():
    assert {*WRONG, "plugin module imports without torch"} == titles(LatentConformance, shared=True)


def test_reasons_are_never_empty_or_many_lines():
    class Broken(Good):
        def forward(self, features):
            return math.nan

    made = LatentConformance()
    made.make = Broken
    for check, reason in failures(made, ranks=False).items():
        assert reason, check
        assert "\n" not in reason


def test_a_latent_that_tells_log_prob_says_so():
    found = failures(case("Quiet", {}))
    assert set(found) == {"shapes and types"}, found
    assert "tell log_prob, and provides does not say so" in found["shapes and types"]
