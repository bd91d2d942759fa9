import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError
from reprkit.evaluation import knn as module
from reprkit.evaluation.knn import KNN


def rows(data):
    batch = data.batch(range(len(data)))
    return batch["x"].flatten(1).numpy().astype(np.float64), batch["label"].numpy()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("k", [1, 5])
def test_knn_matches_scikit_learn_on_digits(metric, k, digits):
    train, test = digits
    known = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(*rows(train))
    found = rk.evaluate("raw", test, f"knn(k={k}, metric='{metric}')", fit_on=train)["knn"]
    assert found == {"accuracy": pytest.approx(known.score(*rows(test))), "n": 100}


def test_weighted_votes_follow_wu_et_al(digits):
    train, test = digits
    (x, y), (test_x, test_y) = rows(train), rows(test)
    near = (test_x / np.linalg.norm(test_x, axis=1, keepdims=True)) @ (
        x / np.linalg.norm(x, axis=1, keepdims=True)
    ).T
    guesses = []
    for row in near:
        nearest = np.argsort(-row)[:20]
        votes = np.zeros(10)
        np.add.at(votes, y[nearest], np.exp(row[nearest] / 0.07))
        guesses.append(votes.argmax())
    references = "knn(k=20, metric='cosine', temperature=0.07)", "knn(protocol='dino')"
    for reference in references:
        found = rk.evaluate("raw", test, reference, fit_on=train)["knn"]
        assert found["accuracy"] == pytest.approx((np.array(guesses) == test_y).mean())


def test_a_protocol_sets_what_is_not_given():
    assert (KNN().k, KNN().metric, KNN().temperature) == (5, "euclidean", None)
    chosen = KNN(10, protocol="dino", temperature=0.1)
    assert (chosen.k, chosen.metric, chosen.temperature) == (10, "cosine", 0.1)
    with pytest.raises(
        PartArgumentError, match=r"knn\(protocol='dino'\) compares by cosine, not by euclidean"
    ):
        KNN(protocol="dino", metric="euclidean")
    with pytest.raises(PartArgumentError, match="labels of at least k=20"):
        KNN(protocol="dino", labels=10)


def test_the_votes_of_dino_equal_its_published_classifier():
    """The lines of eval_knn.py of github.com/facebookresearch/dino, on features whose classes overlap."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(7, 16, generator=generator)
    labels, test_labels = torch.arange(300) % 7, torch.arange(90) % 7
    features = centers[labels] + 2.0 * torch.randn(300, 16, generator=generator)
    test_features = centers[test_labels] + 2.0 * torch.randn(90, 16, generator=generator)
    train = torch.nn.functional.normalize(features, dim=1).t()
    similarity = torch.mm(torch.nn.functional.normalize(test_features, dim=1), train)
    distances, indices = similarity.topk(20, largest=True, sorted=True)
    retrieved = torch.gather(labels.view(1, -1).expand(90, -1), 1, indices)
    one_hot = torch.zeros(90 * 20, 7).scatter_(1, retrieved.reshape(-1, 1), 1)
    weight = distances.clone().div_(0.07).exp_()
    probabilities = torch.sum(one_hot.view(90, -1, 7) * weight.view(90, -1, 1), 1)
    expected = probabilities.sort(1, True)[1][:, 0]
    found = KNN(protocol="dino")._vote(test_features, features, labels, 7)
    assert torch.equal(found, expected)
    assert 0.3 < float((found == test_labels).float().mean()) < 0.95
    plain = KNN(20)._vote(test_features, features, labels, 7)
    assert not torch.equal(plain, expected)


def test_block_size_does_not_change_results(digits, monkeypatch):
    train, test = digits
    whole = rk.evaluate("raw", test, "knn", fit_on=train)
    monkeypatch.setattr(module, "_BLOCK", 3 * len(train))  # three queries at a time
    assert rk.evaluate("raw", test, "knn", fit_on=train) == whole


def test_knn_is_accurate_far_from_the_origin(reader, table):
    # Neighbours differ in the fifth digit: squared lengths alone would lose it in float32.
    generator = np.random.default_rng(0)
    places = 10_000 + np.arange(50.0)[:, None]
    near = places + generator.uniform(-0.3, 0.3, size=(50, 1))
    train, test = table(places, np.arange(50)), table(near, np.arange(50))
    assert rk.evaluate(reader(train), test, "knn(k=1)", fit_on=train)["knn"]["accuracy"] == 1.0


def test_labels_need_not_be_consecutive(reader, table):
    train, test = table([[0.0], [9.0]], [3, 7]), table([[1.0], [8.0], [2.0]], [3, 7, 5])
    assert rk.evaluate(reader(train), test, "knn(k=1)", fit_on=train)["knn"]["accuracy"] == pytest.approx(
        2 / 3
    )


def test_errors_name_what_is_missing(reader, table):
    data = table(torch.rand(4, 2), [0, 1, 0, 1])
    with pytest.raises(DataError, match="knn needs 5 neighbors, but fit_on has 4 examples"):
        rk.evaluate(reader(data), data, "knn", fit_on=data)
    with pytest.raises(DataError, match="knn is fitted on labeled examples"):
        rk.evaluate(reader(data), data, "knn")


@pytest.mark.parametrize(
    "arguments",
    [
        {"k": 0},
        {"metric": "manhattan"},
        {"temperature": -1.0, "metric": "cosine"},
        {"temperature": 0.1},
        {"pool": "max"},
    ],
)
def test_arguments_are_checked(arguments):
    with pytest.raises(PartArgumentError, match="^evaluator KNN: .* must be|knn takes a temperature with"):
        KNN(**arguments)
