"""Run a conformance class on a wrong part: which checks fail, and with which reason."""

from reprkit.testing.base import Conformance, PartConformance, all_checks
from reprkit.testing.kit import run_checks


def failures(case: Conformance, *, ranks: bool = True) -> dict[str, str]:
    """Return the checks that fail -> reason."""
    return {each.check: each.reason for each in run_checks(case, ranks=ranks) if each.status == "failed"}


def titles(cls: type[Conformance], *, shared: bool = False) -> set[str]:
    """Return the titles of a class's checks; with ``shared`` also those inherited from the base classes unchanged."""
    inherited = {
        getattr(base, name) for base in (Conformance, PartConformance) for name, _ in all_checks(base)
    }
    return {
        name.removeprefix("test_").replace("_", " ")
        for name, check in all_checks(cls)
        if shared or check not in inherited
    }
