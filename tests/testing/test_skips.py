"""``skips``: conformance checks that do not apply to a part are skipped with a reason, also in subclasses."""

from unittest import SkipTest

import pytest

from reprkit.errors import PartArgumentError
from reprkit.testing import LatentConformance
from reprkit.testing.base import all_checks
from reprkit.testing.kit import run_checks

pytest_plugins = "pytester"
REASON = "its two processes are tested elsewhere"


class WithSkip(LatentConformance):
    part = "continuous(dim=2)"
    skips = {"test_bf16_autocast": REASON}


class MoreSkips(WithSkip):
    skips = {"test_shapes_and_types": "they are tested elsewhere"}


def test_a_check_is_skipped_with_its_reason():
    with pytest.raises(SkipTest, match=REASON):
        WithSkip().test_bf16_autocast()
    outcomes = {each.check: each for each in run_checks(WithSkip(), ranks=False)}
    assert (outcomes["bf16 autocast"].status, outcomes["bf16 autocast"].reason) == ("skipped", REASON)
    assert outcomes["bf16 autocast"].about == LatentConformance.test_bf16_autocast.__doc__
    assert outcomes["shapes and types"].status == "passed"


def test_the_base_class_keeps_its_check():
    case = LatentConformance()
    case.part = "continuous(dim=2)"
    case.test_bf16_autocast()
    WithSkip().test_shapes_and_types()


def test_a_subclass_inherits_skips():
    skipped = {each.check for each in run_checks(MoreSkips(), ranks=False) if "elsewhere" in each.reason}
    assert skipped == {"bf16 autocast", "shapes and types"}
    assert [name for name, _ in all_checks(MoreSkips)] == [name for name, _ in all_checks(LatentConformance)]


def test_pytest_shows_the_reason(pytester):
    pytester.makepyfile(
        """
        from reprkit.testing import LatentConformance

        class TestMine(LatentConformance):
            part = "continuous(dim=2)"
            skips = {"test_bf16_autocast": "it has no place here"}
        """
    )
    result = pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider", "-k", "bf16 or shapes")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*it has no place here"])


def test_unknown_checks_and_empty_reasons_are_refused():
    with pytest.raises(PartArgumentError, match="Did you mean 'test_bf16_autocast'"):
        type("Misspelled", (LatentConformance,), {"skips": {"test_bf16_autocasts": "why"}})
    with pytest.raises(PartArgumentError, match="give the reason why test_bf16_autocast does not apply"):
        type("WithoutReason", (LatentConformance,), {"skips": {"test_bf16_autocast": " "}})
