import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError
from reprkit.evaluation.label_subset import label_subset, labels_of


def test_subsets_are_balanced_and_nested(digits):
    train, _ = digits
    before = set()
    for count in (10, 25, 60, len(train)):
        chosen = label_subset(train, count, seed=3)
        values = labels_of(chosen)
        counts = np.bincount(values, minlength=10)
        assert len(chosen) == len(values) == count
        if count < 200:
            assert counts.max() - counts.min() <= 1
        mine = set(chosen.indices.tolist())
        assert before <= mine
        before = mine


def test_a_class_with_too_few_examples_is_replaced_by_others(table):
    data = table(torch.rand(20, 2), [0] * 2 + [1] * 18)
    assert np.bincount(labels_of(label_subset(data, 10))).tolist() == [2, 8]


def test_the_seed_decides_and_none_takes_all(digits):
    train, _ = digits
    one, same, other = (label_subset(train, 30, seed=seed).indices.tolist() for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert label_subset(train, None) is train


def test_errors_name_what_is_missing(digits, table):
    train, _ = digits
    with pytest.raises(DataError, match="labels=401 is more than the 400 labeled examples that there are"):
        label_subset(train, 401)
    with pytest.raises(DataError, match="no label field 'label'; its label fields: none"):
        label_subset(table(torch.rand(4, 2)), 2)


@pytest.mark.parametrize("measure", ["knn(k=3, labels=40, seed=5)", "linear-probe(labels=40, seed=5)"])
def test_an_evaluator_with_labels_is_fitted_on_the_subset(measure, digits):
    train, test = digits
    plain = measure.replace(", labels=40, seed=5", "").replace("(labels=40, seed=5)", "")
    asked = rk.evaluate("raw", test, measure, fit_on=train, examples=0)
    given = rk.evaluate("raw", test, plain, fit_on=label_subset(train, 40, seed=5), examples=0)
    assert dict(asked) == dict(given)
    assert dict(asked) != dict(rk.evaluate("raw", test, plain, fit_on=train, examples=0))


def test_few_labels_returns_the_results_of_its_measures(digits):
    train, test = digits
    judge = "few-labels(labels=(20, 80), measures=('knn(k=3)', 'linear-probe'), seed=1)"
    results = rk.evaluate("raw", test, judge, fit_on=train, examples=0)
    found = results["few-labels"]
    assert list(found) == ["knn", "linear-probe"]
    assert list(found["knn"]) == ["20", "80", "all"]
    for name, reference in (("knn", "knn(k=3, {})"), ("linear-probe", "linear-probe({})")):
        for count in (20, 80):
            alone = rk.evaluate(
                "raw", test, reference.format(f"labels={count}, seed=1"), fit_on=train, examples=0
            )
            assert found[name][str(count)] == alone[name]
        alone = rk.evaluate("raw", test, reference.format("seed=1"), fit_on=train, examples=0)
        assert found[name]["all"] == alone[name]
    chart = results.figures["few-labels"]["labels"]
    assert chart.lines["knn"] == ([20, 80, 400], [each["accuracy"] for each in found["knn"].values()])
    assert found["knn"]["20"]["accuracy"] < found["knn"]["all"]["accuracy"]


@pytest.mark.parametrize("wrong", ["labels=(20, 20)", "labels=(0, 5)", "measures=()", "seed=-1"])
def test_arguments_are_checked(wrong):
    with pytest.raises(PartArgumentError, match="^evaluator few-labels: .* must be"):
        rk.create("evaluator", f"few-labels({wrong})")


def test_it_needs_examples_to_fit_on(digits):
    with pytest.raises(DataError, match="pass evaluate"):
        rk.evaluate("raw", digits[1], "linear-probe", "few-labels", fit_on=None)


def test_numbers_that_reach_the_whole_are_omitted(digits):
    train, test = digits
    judge = "few-labels(labels=(40, 400, 900), measures=('knn',))"
    found = rk.evaluate("raw", test, judge, fit_on=train, examples=0)["few-labels"]
    assert list(found["knn"]) == ["40", "all"]
