"""Checks of the kit that a part declares not to apply: skipped with the reason, also in subclasses."""

from unittest import SkipTest

import pytest

from reprkit.errors import PartArgumentError
from reprkit.testing import LatentConformance
from reprkit.testing.base import all_checks
from reprkit.testing.kit import run_checks

pytest_plugins = "pytester"
REASON = "its two processes are tested elsewhere"


class Declared(LatentConformance):
    part = "continuous(dim=2)"
    skips = {"test_bf16_autocast": REASON}


class Further(Declared):
    skips = {"test_shapes_and_types": "they are tested elsewhere"}


def test_a_declared_check_is_skipped_with_its_reason():
    with pytest.raises(SkipTest, match=REASON):
        Declared().test_bf16_autocast()
    outcomes = {each.check: each for each in run_checks(Declared(), ranks=False)}
    assert (outcomes["bf16 autocast"].status, outcomes["bf16 autocast"].reason) == ("skipped", REASON)
    assert outcomes["bf16 autocast"].about == LatentConformance.test_bf16_autocast.__doc__
    assert outcomes["shapes and types"].status == "passed"


def test_the_class_it_comes_from_keeps_its_check():
    case = LatentConformance()
    case.part = "continuous(dim=2)"
    case.test_bf16_autocast()
    Declared().test_shapes_and_types()


def test_a_subclass_skips_what_its_base_does_and_more():
    skipped = {each.check for each in run_checks(Further(), ranks=False) if "elsewhere" in each.reason}
    assert skipped == {"bf16 autocast", "shapes and types"}
    assert [name for name, _ in all_checks(Further)] == [name for name, _ in all_checks(LatentConformance)]


def test_pytest_shows_the_reason(pytester):
    pytester.makepyfile(
        """
        from reprkit.testing import LatentConformance

        class TestMine(LatentConformance):
            part = "continuous(dim=2)"
            skips = {"test_bf16_autocast": "it has no place here"}
        """
    )
    done = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider", "-k", "bf16 or shapes")
    done.assert_outcomes(passed=1, skipped=1)
    done.stdout.fnmatch_lines(["SKIPPED*it has no place here"])


def test_a_name_that_is_no_check_or_no_reason_is_refused():
    with pytest.raises(PartArgumentError, match="Did you mean 'test_bf16_autocast'"):
        type("Mistaken", (LatentConformance,), {"skips": {"test_bf16_autocasts": "why"}})
    with pytest.raises(PartArgumentError, match="say why test_bf16_autocast does not apply"):
        type("Silent", (LatentConformance,), {"skips": {"test_bf16_autocast": " "}})
