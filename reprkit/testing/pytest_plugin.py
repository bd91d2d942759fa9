"""Fixtures for plugin authors: ``pytest_plugins = ["reprkit.testing.pytest_plugin"]`` in your conftest.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reprkit.registry.registry import Registry, using_registry


def pytest_configure(config: pytest.Config) -> None:
    """Announce the mark of what starts processes: ``pytest -m "not ranks"`` leaves it out."""
    config.addinivalue_line("markers", "ranks: starts several processes (gloo)")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the conformance checks that start processes, and the tests that use the fixture ``ranks``."""
    conformance = getattr(getattr(item, "cls", None), "kind", None) is not None
    if (conformance and "two_ranks" in item.name) or "ranks" in getattr(item, "fixturenames", ()):
        item.add_marker("ranks")


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry of the test's own: the built-ins and what it registers, not what happens to be installed."""
    with using_registry(Registry(installed=False)) as own:
        yield own


@pytest.fixture
def ranks() -> Callable[..., list[Any]]:
    """``ranks(2, function, *args)``: the results of a function run in two gloo processes, rank by rank."""
    from reprkit.testing.processes import ranks as start

    return start
