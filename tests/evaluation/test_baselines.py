import pytest
import torch

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError, UnknownPartError
from reprkit.evaluation import baseline


def test_pca_is_a_regular_model(digits):
    train, test = digits
    model = baseline("pca(dim=5)", train)
    batch = test.batch(range(7))
    codes = model.encode(batch)
    assert codes.z.shape == (7, 1, 5)
    assert model.to_batch(model.decode(codes))["x"].shape == (7, 8, 8, 1)
    assert not any(each.requires_grad for each in model.parameters())
    # Mean, components and scale, once; nothing is counted for maps that change nothing.
    assert sum(each.numel() for each in model.parameters()) == 64 + 5 * 64 + 1


def test_raw_reproduces_its_input(digits):
    train, test = digits
    model = baseline("raw", train)
    batch = test.batch(range(3))
    assert torch.equal(model.represent(batch), batch["x"].flatten(1))
    assert torch.equal(model.to_batch(model.decode(model.encode(batch)))["x"], batch["x"])


def test_baselines_support_sequences_and_vectors(table):
    for data in (table(torch.rand(9, 6)), table(torch.rand(9, 4, 2))):
        model = baseline("pca(dim=3)", data)
        assert (
            model.to_batch(model.decode(model.encode(data.batch(range(2)))))["x"].shape
            == data.batch(range(2))["x"].shape
        )


def test_invalid_baselines_are_refused_with_advice(digits, table):
    train, _ = digits
    with pytest.raises(
        UnknownPartError, match=r"Did you mean 'pca'\?\n  known: pca, raw\n  for a saved model, pass rk.load"
    ):
        baseline("pcaa(dim=3)", train)
    with pytest.raises(PartArgumentError, match="pca has no argument 'width'; its arguments: dim"):
        baseline("pca(width=3)", train)
    with pytest.raises(PartArgumentError, match="dim from 1 to 64 on this data, not 65"):
        baseline("pca(dim=65)", train)
    with pytest.raises(DataError, match="pass evaluate"):
        rk.evaluate("pca(dim=3)", train, "codebook")
    varying = table(torch.rand(3, 4, 2), mask=torch.ones(3, 4, dtype=torch.bool))
    with pytest.raises(DataError, match="real values of one shape"):
        baseline("pca(dim=3)", varying)
