"""Fixtures of the tests of runs."""

import pytest

import reprkit as rk


@pytest.fixture(scope="module")
def digits():
    """The train part of the real digits."""
    return rk.dataset("digits").split()[0]
