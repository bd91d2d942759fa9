"""For each check of an encoder, a wrong encoder that fails this check only."""

import itertools
from dataclasses import replace

import pytest
import torch
from catching import titles
from torch import nn

from reprkit.interfaces import Encoder
from reprkit.layers.gather_rows import gather_tokens
from reprkit.models.grid import to_tokens
from reprkit.registry.create import is_restoring
from reprkit.testing import EncoderConformance
from reprkit.testing.kit import failed_checks, run_checks
from reprkit.testing.sample_data import IMAGES, SEQUENCES
from reprkit.types import Features

pytestmark = pytest.mark.ranks


class Good(Encoder):
    """Four patches of an image, each by itself."""

    provides = frozenset({"keep"})

    def __init__(self, data=None):
        super().__init__()
        self.out_dim = 5
        self.linear = nn.Linear(16, 5)

    def forward(self, batch, *, keep=None):
        tokens = to_tokens(batch["x"], (2, 2), "image")
        if keep is None:
            return Features(x=self.finish(self.linear(self.first(tokens, tokens))), grid=self.shape())
        seen = self.first(gather_tokens(tokens, keep), tokens)
        return Features(x=self.linear(seen), positions=keep, length=4)

    def first(self, tokens, all_tokens):
        return tokens

    def finish(self, x):
        return x

    def shape(self):
        return (2, 2)

    def count(self, batch):
        return 4

    def grid(self, batch):
        return (2, 2)


class AnySize(Good):
    """Patches of 4 x 4 pixels of an image of any size."""

    provides = frozenset({"any_size"})

    def forward(self, batch, *, keep=None):
        tokens = to_tokens(batch["x"], self.grid(batch), "image")
        return Features(x=self.linear(tokens), grid=self.grid(batch))

    def count(self, batch):
        return self.grid(batch)[0] * self.grid(batch)[1]

    def grid(self, batch):
        return batch["x"].shape[1] // 4, batch["x"].shape[2] // 4


class CropsLargeImages(AnySize):
    def forward(self, batch, *, keep=None):
        return super().forward({"x": batch["x"][:, :8, :8]})

    def grid(self, batch):
        return 2, 2


class Named(Good):
    def named_layers(self):
        return {"linear": self.linear}


class Frames(Good):
    """The same of sequences of varying lengths: each frame, and the mean of all valid ones beside it."""

    provides = frozenset()

    def __init__(self, data=None):
        super().__init__()
        self.linear = nn.Linear(6, 5)

    def forward(self, batch, *, keep=None):
        x, mask = batch["x"], batch["x_mask"]
        mean = self.mean(x, mask.unsqueeze(-1).float())
        joined = torch.cat([x, mean.unsqueeze(1).expand_as(x)], -1)
        return Features(x=self.linear(joined), mask=mask, grid=(x.shape[1],))

    def mean(self, x, weight):
        return (x * weight).sum(1) / weight.sum(1).clamp(min=1)

    def count(self, batch):
        return batch["x"].shape[1]

    def grid(self, batch):
        return (self.count(batch),)


class WrongGrid(Good):
    def shape(self):
        return (2, 3)


class MixesExamples(Good):
    def finish(self, x):
        return x if self.training else x - x.mean(0)


class MeanOfPadding(Frames):
    def mean(self, x, weight):
        return x.mean(1)


class ReadsHiddenTokens(Good):
    def first(self, tokens, all_tokens):
        return tokens + all_tokens.mean(1, keepdim=True)


class UnusedParameter(Good):
    def __init__(self, data=None):
        super().__init__()
        self.spare = nn.Linear(2, 2)


class RandomInEvaluation(Good):
    def finish(self, x):
        return x if self.training else x * torch.rand(5)


class NoKeepArgument(Good):
    provides = frozenset()

    def forward(self, batch):
        return super().forward(batch)


class IgnoresTheCondition(Good):
    def __init__(self, data=None):
        super().__init__()
        self.condition_dim = 2

    def forward(self, batch, *, keep=None, condition=None):
        return super().forward(batch, keep=keep)


class WithCondition(Good):
    def __init__(self, data=None):
        super().__init__()
        self.condition_dim, self.shift = 2, nn.Linear(2, 5)

    def forward(self, batch, *, keep=None, condition=None):
        features = super().forward(batch, keep=keep)
        offset = 0 if condition is None else self.shift(condition).unsqueeze(1)
        return replace(features, x=features.x + offset)


class HalfPrecision(Good):
    def finish(self, x):
        return (x.half() * 1e6) if torch.is_autocast_enabled("cpu") else x


class BatchNormalized(Good):
    def __init__(self, data=None):
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

    def finish(self, x):
        return self.norm(x.flatten(0, 1)).view_as(x)


class Sum(nn.Module):
    """The sum of two linear maps."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(16, 5), nn.Linear(16, 5)

    def forward(self, x):
        return self.one(x) + self.other(x)


class TiedMaps(Good):
    def __init__(self, data=None):
        super().__init__()
        self.linear = Sum()

    def bind(self, model):
        self.linear.other.weight = self.linear.one.weight


class TiesAtFirstOnly(TiedMaps):
    def bind(self, model):
        if not is_restoring():
            super().bind(model)


class CountsForwards(Good):
    """Its count of forwards is in an object that is neither a buffer nor an attribute."""

    def __init__(self, data=None):
        super().__init__()
        self.seen = itertools.count()

    def finish(self, x):
        return x / (1 + next(self.seen)) if self.training and len(x) == 3 else x


class CreatesTensorsOnTheCPU(Good):
    def finish(self, x):
        return torch.zeros(5) + x * torch.ones(5)


class BranchesOnValues(Good):
    """Its forward depends on values, so that it cannot be checked without a device."""

    def finish(self, x):
        return x if bool((x > -99).all()) else -x


class Case(EncoderConformance):
    wrong = "Good"

    def make(self):
        return globals()[self.wrong](data=self.data)


class SpareLayer(Good):
    def named_layers(self):
        return {"linear": self.linear, "spare": nn.Identity()}


WRONG = {
    "named layers are called": ("SpareLayer", IMAGES, "forward did not call its layers spare"),
    "shapes and types": ("WrongGrid", IMAGES, "grid is (2, 3), which has 6 cells for 4 tokens"),
    "examples are independent": ("MixesExamples", IMAGES, "an example alone and in a batch: differs"),
    "padding has no effect": ("MeanOfPadding", SEQUENCES, "features of valid tokens: differs"),
    "keep reads only visible tokens": (
        "ReadsHiddenTokens",
        IMAGES,
        "features, with other hidden tokens: differs",
    ),
    "images of any size": ("CropsLargeImages", IMAGES, "grid is (2, 2) and grid(batch) (2, 2), not (4, 6)"),
    "output depends on the condition": (
        "IgnoresTheCondition",
        IMAGES,
        "its output does not depend on the condition",
    ),
    "gradients reach every parameter": ("UnusedParameter", IMAGES, "reaches spare.weight, spare.bias"),
    "evaluation is deterministic": ("RandomInEvaluation", IMAGES, "features in evaluation: differs"),
    "trains with odd widths": ("NoKeepArgument", IMAGES, "unexpected keyword argument 'keep'"),
    "bf16 autocast": ("HalfPrecision", IMAGES, "not finite under bf16 autocast"),
    "two ranks equal one process": ("BatchNormalized", IMAGES, "two ranks and one process: features"),
}


def case(name, data):
    made = Case()
    made.wrong, made.data = name, data
    return made


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("Good", IMAGES),
        ("Named", IMAGES),
        ("AnySize", IMAGES),
        ("WithCondition", IMAGES),
        ("TiedMaps", IMAGES),
        ("Frames", SEQUENCES),
    ],
)
def test_correct_encoders_pass_every_check(name, data):
    assert failed_checks(case(name, data)) == {}


@pytest.mark.parametrize(
    ("name", "check", "reason"),
    [
        ("TiesAtFirstOnly", "ties survive a checkpoint", "after loading: nothing"),
        ("CountsForwards", "repeated evaluation is equal", "is there state in other objects"),
        ("CreatesTensorsOnTheCPU", "follows the model to a gpu", "cuda:0"),
    ],
)
def test_a_check_of_all_kinds_catches_an_encoder(name, check, reason):
    found = failed_checks(case(name, IMAGES))
    assert set(found) == {check}, found
    assert reason in found[check]


@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_encoder_fails_one_check(check):
    name, data, reason = WRONG[check]
    found = failed_checks(case(name, data))
    assert set(found) == {check}, found
    assert reason in found[check]


def test_every_check_has_a_wrong_encoder():
    assert set(WRONG) == titles(EncoderConformance)


def test_a_forward_that_depends_on_values_is_not_checked_on_a_gpu():
    status = {
        each.check: (each.status, each.reason)
        for each in run_checks(case("BranchesOnValues", IMAGES), ranks=False)
    }
    assert status["follows the model to a gpu"][0] == "skipped"
    assert "depends on values" in status["follows the model to a gpu"][1]
