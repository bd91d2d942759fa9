"""The conformance checks of a data set that a test has created itself."""

from reprkit.testing import DatasetConformance
from reprkit.testing.kit import failed_checks


def check_conformance(data):
    case = DatasetConformance()
    case.make = lambda: data
    assert failed_checks(case) == {}
