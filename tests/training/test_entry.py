"""Arguments of ``rk.fit`` and ``rk.loop`` in the wrong order or of the wrong kind."""

import numpy as np
import pytest

import reprkit as rk
from reprkit.errors import BuildError, DataError


@pytest.mark.parametrize("start", [rk.fit, rk.loop], ids=["fit", "loop"])
def test_swapped_and_wrong_arguments_are_one_sentence(start):
    data = rk.dataset("digits")
    model = rk.build(data=data, encoder="mlp(width=4)", decoder="mlp(width=4)")
    name = f"rk.{start.__name__}"
    with pytest.raises(BuildError, match=rf"{name}\(model, data\): the first argument is a Digits"):
        start(data, model, steps=1)
    with pytest.raises(BuildError, match="the first argument is a str"):
        start("runs/first", data, steps=1)
    with pytest.raises(
        DataError, match="the second argument is a ndarray, and must be a data set: rk.dataset makes"
    ):
        start(model, np.zeros((4, 8, 8, 1)), steps=1)
