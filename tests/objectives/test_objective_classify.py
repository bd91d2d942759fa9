import pytest
import torch
import torch.nn.functional as F
from learning import digits, fit, full_batch

import reprkit as rk
from reprkit.errors import BuildError, DataError
from reprkit.testing import ObjectiveConformance

MLP = {"encoder": "mlp(width=64)", "latent": "continuous(dim=16)"}


class TestClassify(ObjectiveConformance):
    part = "classify"


def test_it_learns_the_digits_from_uniform_class_probabilities():
    model = rk.build(data=digits()[0], objective="classify", **MLP)
    torch.testing.assert_close(model.eval()(full_batch(1)).total, torch.tensor(10.0).log())
    losses = fit(model, 150, lr=5e-3)(full_batch(1))
    assert float(losses.metrics["accuracy"]) > 0.93


def test_the_loss_is_the_cross_entropy_on_the_representation():
    for latent in ("continuous(dim=16)", "gaussian(dim=16)"):
        model = rk.build(data=digits()[0], encoder="mlp(width=64)", latent=latent, objective="classify")
        torch.nn.init.normal_(model.objective.head.weight)
        batch = digits()[1].batch(range(20))
        losses = model.eval()(batch)
        expected = F.cross_entropy(model.objective.head(model.represent(batch)), batch["label"])
        torch.testing.assert_close(losses.terms["classify"], expected)


def test_it_can_read_one_factor():
    factors = {
        "a": rk.factor("mlp(width=8)", "continuous(dim=3)"),
        "b": rk.factor("mlp(width=8)", "continuous(dim=5)"),
    }
    for objective, width in (("classify", 8), ("classify(factor='b')", 5)):
        model = rk.build(data=digits()[0], factors=factors, objective=objective)
        assert model.objective.head.weight.shape == (10, width)
    with pytest.raises(BuildError, match="no factor named 'c'"):
        rk.build(data=digits()[0], factors=factors, objective="classify(factor='c')")


def test_it_needs_a_known_number_of_classes():
    signature = rk.Signature({"x": digits()[0].signature["x"], "y": rk.Field(kind="label", shape=())})
    with pytest.raises(BuildError, match="reads the label field 'label'"):
        rk.build(data=signature, objective="classify", **MLP)
    with pytest.raises(BuildError, match="field 'y' states vocab=None"):
        rk.build(data=signature, objective="classify(label='y')", **MLP)
    model = rk.build(data=digits()[0], objective="classify", **MLP)
    with pytest.raises(DataError, match="label"):
        model({"x": torch.rand(4, 8, 8, 1)})
