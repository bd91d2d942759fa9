import json
import random

import numpy as np
import pytest
import torch
from torch import nn

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError, UnknownPartError
from reprkit.evaluation import Results, encoded, session
from reprkit.evaluation.harness import distinct_names
from reprkit.registry.references import parse
from reprkit.testing.pool import together


class Curious(rk.Evaluator):
    """Notes what it is run under, and draws from every generator there is."""

    def forward(self, model, data, fit_on=None):
        self.seen = {
            "training": model.training,
            "gradient": torch.is_grad_enabled(),
            "batch": session().batch,
            "sizes": [len(batch["x"]) for batch in data.batches(session().batch)],
        }
        draws = [torch.rand(()).item(), float(np.random.rand()), random.random()]
        return {"torch": draws[0], "numpy": draws[1], "python": draws[2], "figures": {"it": draws}}


class Counting(nn.Module):
    """Counts how often it is called."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x


def draws():
    return torch.rand(()).item(), float(np.random.rand()), random.random()


def test_evaluate_has_no_side_effects(reader, table):
    data = table(torch.rand(10, 2))
    model = reader(data)
    model.train()
    model.factors["code"].latent.eval()  # a part that was frozen by hand
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    expected = draws()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    evaluator = Curious()
    rk.evaluate(model, data, evaluator, batch=4)
    assert draws() == expected
    assert evaluator.seen == {"training": False, "gradient": False, "batch": 4, "sizes": [4, 4, 2]}
    assert model.training
    assert not model.factors["code"].latent.training
    assert torch.is_grad_enabled()


def test_state_is_restored_when_an_evaluator_fails(reader, table):
    class Failing(rk.Evaluator):
        def forward(self, model, data, fit_on=None):
            torch.rand(5)
            raise RuntimeError("no")

    data = table(torch.rand(4, 2))
    model = reader(data)
    model.train()
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no") as raised:
        rk.evaluate(model, data, Failing())
    assert any("in evaluator" in note for note in raised.value.__notes__)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_randomness_depends_on_the_seed_and_not_on_earlier_evaluators(reader, table):
    data = table(torch.rand(4, 2))
    model = reader(data)
    alone = rk.evaluate(model, data, Curious())
    after = rk.evaluate(model, data, "codebook", Curious())
    other = rk.evaluate(model, data, Curious(), seed=1)
    assert alone["Curious"] == after["Curious"]
    assert all(alone["Curious"][name] != other["Curious"][name] for name in ("torch", "numpy", "python"))


def test_results_are_plain_and_named_after_their_evaluator(reader, table):
    data = table(torch.rand(12, 2), [0, 1, 2] * 4)
    results = rk.evaluate(
        reader(data), data, "knn(k=1)", "knn(k=3)", "reprkit/linear-probe", Curious(), fit_on=data
    )
    assert list(results) == ["knn(k=1)", "knn(k=3)", "linear-probe", "Curious"]
    assert results["knn(k=1)"] == {"accuracy": 1.0, "n": 12}
    assert json.loads(json.dumps(results)) == results
    assert results.flat["knn(k=1).accuracy"] == 1.0
    assert "figures" not in results["Curious"]
    assert len(results.figures["Curious"]["it"]) == 3
    assert results.about["parts"]["latent"]["reference"] == "Plain(width=2)"
    assert results.about["parameters"] == sum(each.numel() for each in reader(data).parameters())


def test_evaluators_of_one_name_have_distinct_names():
    texts = [
        "knn",
        "knn(k=3, seed=0)",
        "knn(k=5, seed=0)",
        "acme/knn",
        "samples",
        "probe(c=1)",
        "acme/probe(c=1)",
    ]
    assert distinct_names([parse(text) for text in texts]) == [
        "knn", "knn(k=3, seed=0)", "knn(k=5, seed=0)", "acme/knn", "samples", "probe", "acme/probe"
    ]  # fmt: skip
    assert distinct_names([parse("probe(c=1, k=2)"), parse("probe(c=1, k=3)")]) == [
        "probe(k=2)",
        "probe(k=3)",
    ]


def test_the_data_is_encoded_once_for_all_evaluators(reader, table):
    data = table(torch.rand(12, 2), [0, 1, 2] * 4)
    model = reader(data)
    counter = Counting()
    model.factors["code"].adapter = nn.Sequential(model.factors["code"].adapter, counter)
    rk.evaluate(model, data, "knn(k=1)", "linear-probe", "projection", fit_on=data, batch=6, examples=0)
    assert counter.calls == 2
    rk.evaluate(model, data, "knn(k=1)", fit_on=data, batch=6, examples=0)  # another evaluation sees it anew
    assert counter.calls == 4


def test_masked_means_and_labels_of_a_whole_data_set(reader, table):
    mask = torch.tensor([[True, False], [True, True], [True, True]])
    x = torch.tensor([[[1.0], [9.0]], [[1.0], [3.0]], [[5.0], [5.0]]])
    data = table(x, [2, 0, 1], mask)
    found = encoded(reader(data).eval(), data)
    assert found.x.ravel().tolist() == [1.0, 2.0, 5.0]
    assert found.labels["label"].tolist() == [2, 0, 1]


def test_a_representation_that_is_not_finite_is_refused(reader, table):
    class Broken(reader.Plain):
        def forward(self, features):
            return rk.Code.of(features, z=torch.where(features.x > 0.5, torch.nan, features.x))

    data = table([[0.0], [0.1], [0.9]], [0, 1, 1])
    with pytest.raises(DataError, match="example 2 is not finite"):
        rk.evaluate(reader(data, Broken(1)), data, "knn(k=1)", fit_on=data)


def test_invalid_calls_are_refused_with_advice(reader, table):
    data = table(torch.rand(4, 2))
    model = reader(data)
    with pytest.raises(
        PartArgumentError, match="known: .*codebook, .*knn, .*linear-probe, .*projection, .*reconstruction"
    ):
        rk.evaluate(model, data)
    with pytest.raises(UnknownPartError, match="Did you mean 'linear-probe'"):
        rk.evaluate(model, data, "linear-prob")
    with pytest.raises(PartArgumentError, match="batch of at least 1"):
        rk.evaluate(model, data, "codebook", batch=0)
    with pytest.raises(PartArgumentError, match="passed twice"):
        rk.evaluate(model, data, "codebook", "codebook", "codebook")
    with pytest.raises(BuildError, match="evaluate takes a data set, not Tensor"):
        rk.evaluate(model, torch.rand(3), "codebook")
    with pytest.raises(BuildError, match="Linear is not an Evaluator"):
        rk.evaluate(model, data, nn.Linear(1, 1))
    with pytest.raises(BuildError, match=r"a model from rk\.build or rk\.load, not Linear"):
        rk.evaluate(nn.Linear(1, 1), data, "codebook")


def test_a_wrapped_model_is_unwrapped(reader, table):
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    data = table(torch.rand(4, 2))
    model = reader(data)
    assert rk.evaluate(Wrapper(model), data, "codebook") == rk.evaluate(model, data, "codebook")


def test_empty_results():
    assert Results().flat == {}
    assert Results({"a": {"b": {"c": 1}, "d": None}}).flat == {
        "a.b.c": 1,
        "a.d": pytest.approx(float("nan"), nan_ok=True),
    }


def _everywhere(rank):
    train, test = rk.dataset("digits").subset(range(300)).split()
    return dict(rk.evaluate("pca(dim=4)", test, "reconstruction", "knn", fit_on=train))


@pytest.mark.ranks
@pytest.mark.slow
def test_every_rank_gets_the_results_of_one_process():
    alone = _everywhere(0)
    for each in together(2, _everywhere):
        assert each["knn"] == alone["knn"]
        assert each["reconstruction"] == pytest.approx(alone["reconstruction"], rel=1e-5)


def test_measures_that_do_not_suit_are_left_out_with_a_word(capsys):
    data = rk.dataset(
        rk.dataset("digits").batch(range(40))["x"].numpy(), kinds={"x": "image"}, ranges={"x": (0, 1)}
    )
    model = rk.build(data=data, encoder="mlp(width=4)", latent="continuous(dim=2)", decoder="mlp(width=4)")
    with pytest.raises(rk.ReprkitError, match="knn needs labels"):
        rk.evaluate(model, data, "reconstruction", "knn", fit_on=data)
    found = rk.evaluate(model, data, "reconstruction", "knn", fit_on=data, leave_out=True)
    assert list(found) == ["reconstruction"]
    assert found.left_out["knn"].startswith("knn needs labels")
    assert "knn is left out: knn needs labels" in capsys.readouterr().err
    with pytest.raises(
        rk.ReprkitError, match="none of the evaluators suits this model and data\n  knn: knn needs"
    ):
        rk.evaluate(model, data, "knn", fit_on=data, leave_out=True)
    with pytest.raises(rk.ReprkitError, match="no evaluator named 'knnn'"):
        rk.evaluate(model, data, "reconstruction", "knnn", leave_out=True)
