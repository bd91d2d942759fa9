"""Counts of symbols in a signature."""

import pytest
import torch

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError

FIELDS = {"x": Field(kind="tokens", shape=(None,), vocab=6), "label": Field(kind="label", shape=(), vocab=3)}


def words():
    x = torch.tensor([[1, 1, 2, 0], [3, 1, 0, 0]])
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    return rk.data.Tensors({"x": x, "x_mask": mask, "label": torch.tensor([2, 2])}, Signature(FIELDS))


def test_symbols_are_counted_without_padding():
    data = words().count_symbols("x", "label")
    assert data.signature["x"].counts == (0, 3, 1, 1, 0, 0)
    assert data.signature["label"].counts == (0, 0, 2)
    assert words().signature["x"].counts is None
    part = words().subset([1]).count_symbols()
    assert part.signature["x"].counts == (0, 1, 0, 1, 0, 0)
    assert part.data.signature["x"].counts is None


def test_a_checkpoint_keeps_the_counts(tmp_path):
    data = words().count_symbols()
    parts = {"encoder": "gru(width=4)", "latent": "continuous(dim=2)", "decoder": "gru(width=4)"}
    model = rk.build(data=data, objective="autoregressive", **parts)
    assert model.decoder.build_context["data"]["x"].counts == (0, 3, 1, 1, 0, 0)
    again = rk.load(model.save(tmp_path / "model"))
    assert again.signature["x"].counts == (0, 3, 1, 1, 0, 0)
    assert again.signature.to_json() == data.signature.to_json()
    assert "counts" not in words().signature.to_json()["x"]


def test_wrong_counts_are_refused():
    with pytest.raises(DataError, match="one whole number from 0 for each of 6 symbols"):
        Field(kind="tokens", shape=(4,), vocab=6, counts=(1, 2))
    with pytest.raises(DataError, match="has no symbols to count"):
        rk.dataset({"x": torch.randn(4, 3)}).count_symbols()
