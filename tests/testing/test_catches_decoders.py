"""For each check of a decoder, a wrong decoder that fails this check only."""

import copy
from dataclasses import replace

import pytest
import torch
from catching import titles
from torch import nn

from reprkit.decoders.gru import GRUDecoder
from reprkit.interfaces import Decoder
from reprkit.layers.gather_rows import gather_tokens
from reprkit.layers.transposed import TransposedLinear
from reprkit.layers.trees import tree_of
from reprkit.registry.create import is_restoring
from reprkit.testing import DecoderConformance
from reprkit.testing.kit import failed_checks
from reprkit.testing.sample_data import IMAGES, TOKENS
from reprkit.types import Decoded

pytestmark = pytest.mark.ranks


class Good(Decoder):
    """Four patches of an image, each from its own token of the code."""

    def __init__(self, data=None, tokens=None):
        super().__init__()
        self.in_dim = 5
        self.linear = nn.Linear(5, 16)
        self.log_scale = nn.Parameter(torch.zeros(1, 1, 1))

    def forward(self, features, *, teacher=None, length=None):
        x = features.x if features.mask is None else features.x * features.mask.unsqueeze(-1)
        mean = self.finish(self.linear(self.first(x, features)))
        params = {"mean": mean, "log_scale": self.log_scale}
        return Decoded(x=self.estimate(mean), likelihood="gaussian", params=params, grid=(2, 2))

    def first(self, x, features):
        return x

    def finish(self, mean):
        return mean

    def estimate(self, mean):
        return mean


class AnySize(Good):
    """Patches of 4 x 4 pixels of an image of any size."""

    provides = frozenset({"any_size"})

    def forward(self, features, *, teacher=None, length=None):
        return replace(super().forward(features), grid=self.grid(features))

    def grid(self, features):
        return features.grid or (2, 2)


class KeepsItsGrid(AnySize):
    def grid(self, features):
        return 2, features.x.shape[1] // 2


class WrongOutputShape(Good):
    def estimate(self, mean):
        return mean[..., :1] if self.training else mean


class IgnoresTheCode(Good):
    def first(self, x, features):
        return x * 0


class MixesExamples(Good):
    def finish(self, mean):
        return mean if self.training else mean - mean.mean(0)


class Tree(Good):
    """Each patch also from the parent of its token."""

    provides = frozenset({"tree"})

    def first(self, x, features):
        parents = tree_of(features)
        above = gather_tokens(x, parents.clamp(min=0)) * (parents >= 0).unsqueeze(-1)
        return x + above


class StructureOnly(Tree):
    """Patches from the shape of the tree alone."""

    def first(self, x, features):
        parents = tree_of(features)
        return (parents - torch.arange(parents.shape[1], device=parents.device)).clamp(min=0).unsqueeze(
            -1
        ) + 0.0 * x


class Generates(Good):
    """A code of its own with a likelihood, and no point estimate of the data."""

    def forward(self, features, *, teacher=None, length=None):
        decoded = super().forward(features)
        x = features.x if features.mask is None else features.x * features.mask.unsqueeze(-1)
        nats = self.nats(self.linear(x).square().mean((1, 2)))
        return replace(decoded, x=None, has_point=False, code_nll=nats)

    def nats(self, each):
        return each


class GeneratesForTheBatch(Generates):
    def nats(self, each):
        return each.mean()


class IgnoresTheTree(Good):
    provides = frozenset({"tree"})


class IgnoresTheCondition(Good):
    def __init__(self, data=None, tokens=None):
        super().__init__()
        self.condition_dim = 2

    def forward(self, features, *, condition=None, teacher=None, length=None):
        return super().forward(features)


class IgnoresQueries(Good):
    provides = frozenset({"queries"})
    cells = (2, 2)

    def forward(self, features, *, teacher=None, length=None, queries=None):
        decoded = super().forward(features)
        return decoded if queries is None else replace(decoded, x=decoded.x[:, : queries.shape[1]])


class ReadsPadding(Good):
    def first(self, x, features):
        return x + features.x.mean(1, keepdim=True)


class UnusedParameter(Good):
    def __init__(self, data=None, tokens=None):
        super().__init__()
        self.spare = nn.Parameter(torch.zeros(2))


class RandomInEvaluation(Good):
    def finish(self, mean):
        return mean if self.training else mean + torch.rand(16)


class NoLengthArgument(Good):
    def forward(self, features, *, teacher=None):
        return super().forward(features)


class HalfPrecision(Good):
    def finish(self, mean):
        return mean.half() * 1e6 if torch.is_autocast_enabled("cpu") else mean


class BatchNormalized(Good):
    def __init__(self, data=None, tokens=None):
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def finish(self, mean):
        return self.norm(mean.flatten(0, 1)).view_as(mean)


class NotCausal(GRUDecoder):
    """Its output at token t depends on token t, since the teacher is shifted by one step too few."""

    def __init__(self, width: int = 8, *, data=None, tokens=None):
        super().__init__(width, data=data, tokens=tokens)

    def forward(self, features, *, teacher=None, length=None):
        early = None if teacher is None else torch.roll(teacher, -1, 1)
        return super().forward(features, teacher=early, length=length)


class Mirror(Good):
    """A whole image by the transposed map of encoder flat's adapter."""

    needs_adapter = False

    def bind(self, model):
        factor = model.factors["code"]
        self.in_dim, self.linear = factor.latent.out_dim, self.transposed(factor.adapter)

    def transposed(self, linear):
        return TransposedLinear(linear)

    def forward(self, features, *, teacher=None, length=None):
        x = features.x if features.mask is None else features.x * features.mask.unsqueeze(-1)
        mean = self.linear(x.mean(1, keepdim=True))
        params = {"mean": mean, "log_scale": self.log_scale}
        return Decoded(x=mean, likelihood="gaussian", params=params, grid=(1, 1))


class TiesAtFirstOnly(Mirror):
    """Loaded from a checkpoint, its weight is a copy."""

    def transposed(self, linear):
        return TransposedLinear(copy.deepcopy(linear) if is_restoring() else linear)


class Case(DecoderConformance):
    wrong = "Good"

    def make(self):
        return globals()[self.wrong](data=self.data, tokens=self.facts["tokens"])


WRONG = {
    "shapes and types": (
        "WrongOutputShape",
        IMAGES,
        "its output is (1, 4, 1), and the data in its grid is (1, 4, 16)",
    ),
    "output depends on the code": ("IgnoresTheCode", IMAGES, "no gradient reaches the code"),
    "code nll is one number an example": (
        "GeneratesForTheBatch",
        IMAGES,
        "code_nll is (), not (b,)",
    ),
    "output depends on the tree": ("IgnoresTheTree", IMAGES, "the likelihood does not depend on the tree"),
    "images of any size": ("KeepsItsGrid", IMAGES, "has grid (2, 12), not (4, 6)"),
    "queries match the full output": (
        "IgnoresQueries",
        IMAGES,
        "tokens decoded by queries, and the same tokens of the full output: differs",
    ),
    "examples are independent": ("MixesExamples", IMAGES, "an example alone and in a batch: differs"),
    "masked tokens have no effect": ("ReadsPadding", IMAGES, "mean, with other masked tokens: differs"),
    "output depends on the condition": (
        "IgnoresTheCondition",
        IMAGES,
        "its output does not depend on the condition",
    ),
    "gradients reach every parameter": ("UnusedParameter", IMAGES, "no gradient reaches spare"),
    "evaluation is deterministic": ("RandomInEvaluation", IMAGES, "output in evaluation: differs"),
    "trains with odd widths": ("NoLengthArgument", IMAGES, "keyword argument 'length'"),
    "bf16 autocast": ("HalfPrecision", IMAGES, "the likelihood is not finite under bf16 autocast"),
    "causal output ignores later tokens": (
        "NotCausal",
        TOKENS,
        "with another teacher from token",
    ),
    "two ranks equal one process": ("BatchNormalized", IMAGES, "two ranks and one process: likelihood"),
}


def case(name, data):
    made = Case()
    made.wrong, made.data = name, data
    return made


@pytest.mark.parametrize("name", ["Good", "AnySize", "Mirror", "Tree", "StructureOnly", "Generates"])
def test_a_correct_decoder_passes_every_check(name):
    assert failed_checks(case(name, IMAGES)) == {}


def test_a_tie_that_a_checkpoint_loses_fails_one_check():
    found = failed_checks(case("TiesAtFirstOnly", IMAGES))
    assert set(found) == {"ties survive a checkpoint"}, found
    assert "after loading: nothing" in found["ties survive a checkpoint"]


@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_decoder_fails_one_check(check):
    name, data, reason = WRONG[check]
    found = failed_checks(case(name, data))
    assert set(found) == {check}, found
    assert reason in found[check]


def test_every_check_has_a_wrong_decoder():
    assert set(WRONG) == titles(DecoderConformance)
