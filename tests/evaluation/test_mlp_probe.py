import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError
from reprkit.evaluation.mlp_probe import MLPProbe


def exclusive_or(n=400, seed=0):
    """Points around four corners; the class is whether their signs differ, which no linear classifier tells."""
    generator = np.random.default_rng(seed)
    corners = generator.choice([-1.0, 1.0], (n, 2))
    return corners + 0.2 * generator.normal(size=(n, 2)), (corners.prod(1) > 0).astype(int)


def test_what_is_not_linear_is_read_by_this_probe_only(reader, table):
    train, test = table(*exclusive_or()), table(*exclusive_or(200, seed=1))
    found = rk.evaluate(reader(train), test, "mlp-probe(width=32)", "linear-probe", fit_on=train)
    assert found["mlp-probe"]["accuracy"] > 0.97
    assert found["linear-probe"]["accuracy"] < 0.65


def test_accuracy_is_that_of_scikit_learn(reader, table):
    (x, y), (test_x, test_y) = exclusive_or(100), exclusive_or(60, seed=1)
    x, test_x = x.astype(np.float32), test_x.astype(np.float32)
    network = MLPClassifier(
        (3,),
        alpha=0.1,
        max_iter=1000,
        early_stopping=True,
        batch_size=50,
        n_iter_no_change=100,
        random_state=2,
    )
    expected = make_pipeline(StandardScaler(), network).fit(x, y).score(test_x, test_y)
    train = table(x, y)
    found = rk.evaluate(
        reader(train),
        table(test_x, test_y),
        "mlp-probe(width=3, alpha=0.1, seed=2)",
        fit_on=train,
    )["mlp-probe"]
    values, counts = np.unique(y, return_counts=True)
    assert found == {
        "accuracy": pytest.approx(expected),
        "majority": pytest.approx((test_y == values[counts.argmax()]).mean()),
        "n": 60,
    }


def test_too_few_examples_of_a_class_are_refused(reader, table):
    x, y = exclusive_or(40)
    y[:9], y[9:] = 1, 0
    train = table(x, y)
    with pytest.raises(
        DataError, match="at least 10 examples of each class of 'label'; fit_on has 9 of class 1"
    ):
        rk.evaluate(reader(train), train, "mlp-probe", fit_on=train)
    with pytest.raises(DataError, match="at least two classes; every label 'label' of fit_on is 1"):
        rk.evaluate(reader(train), train, "mlp-probe", fit_on=train.subset(range(9)))
    with pytest.raises(DataError, match="mlp-probe is fitted on labeled examples: pass evaluate"):
        rk.evaluate(reader(train), train, "mlp-probe")


@pytest.mark.parametrize("probe", ["mlp-probe", "linear-probe"])
def test_data_of_one_class_is_reported(reader, table, probe):
    x, y = exclusive_or(60)
    train = table(x, y)
    one = train.subset(np.flatnonzero(y == 1).tolist())
    with pytest.warns(UserWarning, match=rf"{probe}\(label='label'\): every example to classify has label 1"):
        found = rk.evaluate(reader(train), one, probe, fit_on=train)[probe]
    assert found["majority"] == float(np.bincount(y).argmax() == 1)


@pytest.mark.parametrize(
    ("argument", "value"), [("width", 0), ("alpha", -1.0), ("pool", "max"), ("max_iter", 0)]
)
def test_arguments_are_checked(argument, value):
    with pytest.raises(PartArgumentError, match=argument):
        MLPProbe(**{argument: value})
