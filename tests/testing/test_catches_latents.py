"""For each check of a latent, a wrong latent that fails this check only."""

import math

import pytest
import torch
import wrong_latents
from catching import titles

from reprkit.registry.create import create
from reprkit.registry.registry import Registry, using_registry
from reprkit.testing import LatentConformance
from reprkit.testing.kit import failed_checks

pytestmark = pytest.mark.ranks


class Case(LatentConformance):
    wrong = "Good"
    options: dict = {}

    def make(self):
        return getattr(wrong_latents, self.wrong)(**self.options)


WRONG = {
    "repeated evaluation is equal": ("CountsForwards", {}, "is there state in other objects"),
    "follows the model to a gpu": ("KeepsTensors", {}, "a tensor stays on the CPU"),
    "parts in arguments are annotated": (
        "UnannotatedPart",
        {"inner": create("latent", "continuous(dim=3)")},
        "its argument inner is a latent, and the source annotates it 'object': write inner: str | Latent",
    ),
    "former argument names are accepted": (
        "RenamedToNothing",
        {},
        "renamed_arguments names 'width', which is not an argument of RenamedToNothing",
    ),
    "ties survive a checkpoint": ("LosesItsTie", {}, "after loading: nothing"),
    "arguments are declared": ("Undeclared", {}, "argument scale of Undeclared has no annotation"),
    "arguments round trip through json": (
        "Good",
        {"scale": torch.ones(1)},
        "an argument of Good is not JSON",
    ),
    "weights round trip through disk": ("Stateful", {}, "is there state outside of the buffers?"),
    "buffers keep their shape": ("GrowingBuffer", {}, "change their shape: history"),
    "shapes and types": ("BitsPerToken", {}, "bits is (1, 1), not (1,)"),
    "the collapse floor is a share": ("FloorInPercent", {}, "collapse_floor is 8, not a share of the codes"),
    "masked tokens have no effect": ("CountsPadding", {}, "loss 'size': differs by up to"),
    "trees are in post order": ("TreeOverPadding", {}, "a padded token has a parent: write -1"),
    "log prob has a gradient": ("LogProbWithoutGradient", {}, "log_prob has no gradient"),
    "gradients reach every parameter": ("UnusedParameter", {}, "no gradient reaches spare"),
    "evaluation is deterministic": ("RandomInEvaluation", {}, "z in evaluation: differs"),
    "state changes in update only": ("StartsUndeclared", {}, "z in evaluation, after a forward in training"),
    "embed reproduces the code": ("WrongEmbedding", {}, "embed(indices) and z in evaluation: differs"),
    "table bits are those of the bytes": ("PricesOtherBytes", {}, "table_bits(counts) says"),
    "bytes reproduce the code": (
        "TablesOutsideOfTheState",
        {},
        "a copy with the same state cannot read what was written",
    ),
    "prior has the shape of codes": (
        "PriorIgnoresGenerator",
        {},
        "two draws from the prior under one generator",
    ),
    "log prior is finite and masked": ("PriorOfPadding", {}, "log_prior counts padded tokens"),
    "trains with odd widths": ("NeedsTwoRows", {}, "the loss is"),
    "bf16 autocast": ("HalfPrecision", {"precision": "any"}, "z is not finite under bf16 autocast"),
    "comparison of examples is declared": (
        "ComparesExamplesUndeclared",
        {},
        "a latent couples_examples = True",
    ),
    "two ranks equal one process": (
        "OwnStatistics",
        {},
        "rank 0 of two and one process: state share: differs",
    ),
}


def case(name, options=None):
    test = Case()
    test.wrong, test.options = name, options or {}
    return test


@pytest.mark.parametrize("name", ["Good", "Policy", "Tree", "Codec"])
def test_a_correct_latent_passes_every_check(name):
    assert failed_checks(case(name)) == {}


@pytest.mark.parametrize(
    ("name", "check", "reason"),
    [
        ("DrawsOfOneRank", "two ranks equal one process", "log_prob of step 0: differs"),
        ("ReadsOtherValues", "bytes reproduce the code", "z of valid tokens, written and read by a copy"),
        ("LosesTheTree", "trees are in post order", "the code does not have the features' tree"),
    ],
)
def test_further_wrong_latents_fail_one_check(name, check, reason):
    found = failed_checks(case(name))
    assert set(found) == {check}, found
    assert reason in found[check]


def test_a_part_in_an_annotated_argument_passes():
    assert (
        failed_checks(case("AnnotatedPart", {"inner": create("latent", "continuous(dim=3)")}), ranks=False)
        == {}
    )


@pytest.mark.parametrize("check", WRONG)
def test_a_wrong_latent_fails_one_check(check):
    name, options, reason = WRONG[check]
    found = failed_checks(case(name, options))
    assert set(found) == {check}, found
    assert reason in found[check]


def test_an_unchecked_constructor_is_caught():
    found = failed_checks(case("UncheckedConstructor"))
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
    test = LatentConformance()
    test.part = "slow-one/plain(dim=3)"
    with using_registry(Registry()):
        found = failed_checks(test, ranks=False)
    assert set(found) == {"plugin module imports without torch"}
    assert "importing slow_one_plugin loads torch" in found["plugin module imports without torch"]


def test_every_check_has_a_wrong_latent():
    assert {*WRONG, "plugin module imports without torch"} == titles(LatentConformance, shared=True)


def test_reasons_are_single_lines():
    class Broken(wrong_latents.Good):
        def forward(self, features):
            return math.nan

    test = LatentConformance()
    test.make = Broken
    for check, reason in failed_checks(test, ranks=False).items():
        assert reason, check
        assert "\n" not in reason


def test_deviation_must_be_declared():
    found = failed_checks(case("UndeclaredDeviation", {}), ranks=False)
    assert set(found) == {"shapes and types"}, found
    assert "codes have a deviation if and only if provides names it" in found["shapes and types"]


def test_log_prob_must_be_declared():
    found = failed_checks(case("UndeclaredLogProb", {}))
    assert set(found) == {"shapes and types"}, found
    assert "have log_prob, and provides does not name it" in found["shapes and types"]
