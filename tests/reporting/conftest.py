"""Fixtures of the report's tests."""

import pytest
from pages_made import MEASURES

import reprkit as rk


@pytest.fixture(scope="module")
def trained():
    """A short real training run and its results: (train, test, model, results)."""
    train, test = rk.dataset("digits").subset(range(300)).split(seed=0)
    made = {}
    for latent in ("gaussian(dim=4)", "binary(bits=6)"):
        model = rk.build(data=train, encoder="mlp(widths=(32,))", latent=latent, decoder="mlp(widths=(32,))")
        made[latent] = model, rk.evaluate(model, test, *MEASURES, fit_on=train)
    return train, test, made
