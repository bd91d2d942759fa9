import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError
from reprkit.evaluation.linear_probe import LinearProbe


def rows(data):
    batch = data.batch(range(len(data)))
    return batch["x"].flatten(1).numpy().astype(np.float64), batch["label"].numpy()


def test_linear_probe_matches_scikit_learn(digits):
    train, test = digits
    (x, y), (test_x, test_y) = rows(train), rows(test)
    pca = PCA(8, random_state=0).fit(x)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.5, max_iter=2000)).fit(pca.transform(x), y)
    found = rk.evaluate("pca(dim=8)", test, "linear-probe(C=0.5)", fit_on=train)["linear-probe"]
    assert found["accuracy"] == pytest.approx(probe.score(pca.transform(test_x), test_y), abs=0.011)
    assert found["n"] == len(test) == 100
    assert found["accuracy"] > 0.8


def test_standardization_makes_the_scale_of_a_dimension_irrelevant(reader, table):
    generator = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = np.stack([y + 0.1 * generator.normal(size=60), generator.normal(size=60)], 1)
    found = [
        rk.evaluate(reader(data := table(x * scale, y)), data, LinearProbe(), fit_on=data)["LinearProbe"]
        for scale in ([1.0, 1.0], [1e-3, 1e3])
    ]
    assert found[0] == found[1]
    assert found[0]["accuracy"] == 1.0


def test_flattened_tokens_hold_information_that_their_mean_lacks(reader, table):
    # The class is which of the two tokens is 1: the mean is the same for both.
    y = np.arange(40) % 2
    x = np.zeros((40, 2, 1))
    x[np.arange(40), y, 0] = 1
    data = table(x, y)
    model = reader(data)
    assert (
        rk.evaluate(model, data, "linear-probe(pool='flatten')", fit_on=data)["linear-probe"]["accuracy"] == 1
    )
    assert rk.evaluate(model, data, "linear-probe", fit_on=data)["linear-probe"]["accuracy"] == 0.5


def test_the_confusion_matrix_counts_by_label(reader, table):
    data = table([[0.0], [0.0], [1.0], [1.0]], [0, 0, 1, 1])
    wrong = table([[0.0], [1.0], [1.0], [1.0]], [0, 0, 1, 1])
    results = rk.evaluate(reader(data), wrong, "linear-probe", fit_on=data)
    assert results["linear-probe"]["accuracy"] == 0.75
    assert results.figures["linear-probe"]["confusion"].values.tolist() == [[0.5, 0.5], [0.0, 1.0]]


def test_errors_name_what_is_missing(reader, table):
    labelled, bare = table(torch.rand(8, 2), [0, 1] * 4), table(torch.rand(8, 2))
    model = reader(labelled)
    with pytest.raises(DataError, match="linear-probe is fitted on labeled examples: pass evaluate"):
        rk.evaluate(model, labelled, "linear-probe")
    with pytest.raises(DataError, match=r"no label field 'label'; its label fields: none \(of x\)"):
        rk.evaluate(reader(bare), bare, "linear-probe", fit_on=bare)
    with pytest.raises(DataError, match=r"no label field 'writer'; its label fields: label \(of x, label\)"):
        rk.evaluate(model, labelled, "linear-probe(label='writer')", fit_on=labelled)
    with pytest.raises(DataError, match="two classes"):
        rk.evaluate(model, labelled, "linear-probe", fit_on=labelled.subset([0, 2, 4]))


@pytest.mark.parametrize(("argument", "value"), [("C", 0.0), ("pool", "max"), ("max_iter", 0)])
def test_arguments_are_checked(argument, value):
    with pytest.raises(PartArgumentError, match=argument):
        LinearProbe(**{argument: value})
