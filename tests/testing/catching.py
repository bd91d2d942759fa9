"""Runs a conformance class on a deliberately wrong part: which checks fail, and do they say why."""

from reprkit.testing.base import Conformance, PartConformance, all_checks
from reprkit.testing.kit import run_checks


def failures(case: Conformance, *, ranks: bool = True) -> dict[str, str]:
    """Check -> reason, of those that fail."""
    return {each.check: each.reason for each in run_checks(case, ranks=ranks) if each.status == "failed"}


def titles(cls: type[Conformance], *, shared: bool = False) -> set[str]:
    """The checks of a class in words; ``shared``: also those that it has from the base classes unchanged."""
    inherited = {
        getattr(base, name) for base in (Conformance, PartConformance) for name, _ in all_checks(base)
    }
    return {
        name.removeprefix("test_").replace("_", " ")
        for name, check in all_checks(cls)
        if shared or check not in inherited
    }
