"""The titles of a conformance class's checks, to compare with those that wrong parts fail."""

from reprkit.testing.base import Conformance, all_checks
from reprkit.testing.parts import PartConformance


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
