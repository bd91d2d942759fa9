"""Evaluator ``rankme`` against the equation in NumPy."""

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import DataError


def test_rankme_is_the_equation(digits):
    x = digits[1].batch(range(len(digits[1])))["x"].flatten(1).double().numpy()
    singular = np.linalg.svd(x, compute_uv=False)
    shares = singular / singular.sum() + 1e-7
    found = rk.evaluate("raw", digits[1], "rankme", fit_on=digits[0], examples=0)["rankme"]
    assert found == {
        "rank": pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4),
        "dim": 64,
        "n": len(x),
    }


def test_rankme_needs_no_labels_and_two_examples(reader, table):
    data = table(torch.eye(4).repeat(3, 1) * 5)
    assert rk.evaluate(reader(data), data, "rankme")["rankme"]["rank"] == pytest.approx(4, rel=1e-4)
    one = table(torch.eye(4)[:1])
    with pytest.raises(DataError, match="rankme reads two vectors or more, not 1"):
        rk.evaluate(reader(one), one, "rankme")
