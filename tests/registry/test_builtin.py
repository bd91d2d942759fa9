"""Built-in Specs: each class exists and can be read without importing it."""

import pytest

import reprkit
from reprkit.interfaces import Part
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.lookup import FoundPart
from reprkit.registry.registry import Registry
from reprkit.registry.sources import from_build_context, read_class

REGISTRY = Registry(installed=False)
PARTS = [pytest.param(found, id=f"{kind}-{found.name}") for kind in KINDS for found in REGISTRY.specs(kind)]


@pytest.mark.parametrize("found", PARTS)
def test_class_exists(found: FoundPart) -> None:
    cls = REGISTRY.load(found.kind, found.qualified)
    assert issubclass(cls, getattr(reprkit, found.kind.capitalize()))
    if issubclass(cls, Part):
        assert cls.kind == found.kind
    assert REGISTRY.qualified_name_of(cls) == found.qualified


@pytest.mark.parametrize("found", PARTS)
def test_class_has_documentation(found: FoundPart) -> None:
    source = read_class(found.spec.build)
    assert source is not None
    assert source.doc, "the class has no docstring"
    chosen = [each for each in source.arguments if not from_build_context(found.kind, each.name)]
    assert [each.name for each in chosen if not each.annotation] == [], "arguments without a type"
    assert [each.name for each in chosen if not each.help] == [], (
        "arguments that the docstring's Args: leaves out"
    )
    # An evaluator states a whole protocol, and a data set describes files that others wrote.
    most = {"evaluator": 12, "dataset": 10}.get(found.kind, 9)
    assert len(chosen) <= most, "one more option means a second class"
