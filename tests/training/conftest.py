"""Fixtures of the loop's tests."""

import pytest

import reprkit as rk


@pytest.fixture(scope="module")
def digits():
    """The train part of the real digits."""
    return rk.dataset("digits").split()[0]
