"""Fixtures of the tests of runs."""

import pytest

import reprkit as rk


@pytest.fixture(scope="module")
def digits():
    """The training split of the digits."""
    return rk.dataset("digits").split()[0]
