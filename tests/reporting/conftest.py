"""Fixtures of the report tests."""

import pytest
from page_checks import MEASURES
from stub_models import digits, reader, table

import reprkit as rk

__all__ = ["digits", "reader", "table", "trained"]


@pytest.fixture(scope="module")
def trained():
    """Two untrained models with results on digits: (train, test, latent -> (model, results))."""
    train, test = rk.dataset("digits").subset(range(300)).split(seed=0)
    models = {}
    for latent in ("gaussian(dim=4)", "binary(bits=6)"):
        model = rk.build(data=train, encoder="mlp(widths=(32,))", latent=latent, decoder="mlp(widths=(32,))")
        models[latent] = model, rk.evaluate(model, test, *MEASURES, fit_on=train)
    return train, test, models
