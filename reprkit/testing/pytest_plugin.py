"""Fixtures for plugin authors: ``pytest_plugins = ["reprkit.testing.pytest_plugin"]`` in your conftest.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reprkit.registry.registry import Registry, using_registry


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of tests that start processes: ``pytest -m "not ranks"`` deselects them."""
    config.addinivalue_line("markers", "ranks: starts several processes (gloo)")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the conformance checks that start processes and the tests that use the fixture ``ranks``."""
    conformance = getattr(getattr(item, "cls", None), "kind", None) is not None
    if (conformance and "two_ranks" in item.name) or "ranks" in getattr(item, "fixturenames", ()):
        item.add_marker("ranks")


@pytest.fixture
def registry() -> Iterator[Registry]:
    """An isolated registry: the built-ins and what the test registers, without installed plugins."""
    with using_registry(Registry(installed=False)) as own:
        yield own


@pytest.fixture
def ranks() -> Callable[..., list[Any]]:
    """The function ``ranks``: ``ranks(2, function, *args)`` runs two gloo processes, with results in rank order."""
    from reprkit.testing.processes import ranks as start

    return start
