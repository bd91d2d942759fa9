"""Folds: test parts that are disjoint and complete, with identities kept together."""

import pandas as pd
import pytest
import torch

import reprkit as rk
from reprkit.data import Arrays, Table, Tensors, fold
from reprkit.errors import DataError


class Named(Tensors):
    """Sixty examples of twenty names."""

    def identities(self):
        return [f"name {row % 20}" for row in range(len(self))]


@pytest.fixture
def data():
    return Named({"x": torch.arange(60.0)[:, None]}, rk.Signature({"x": rk.Field(kind="vector", shape=(1,))}))


def rows(part):
    return part.batch(range(len(part)))["x"][:, 0].long().tolist()


def test_each_example_is_tested_once_and_names_stay_together(data):
    tested = []
    for number in range(5):
        parts = [rows(part) for part in fold(data, number)]
        assert sorted([*parts[0], *parts[1], *parts[2]]) == list(range(60))
        names = [{row % 20 for row in part} for part in parts]
        assert not names[0] & names[1]
        assert not names[2] & (names[0] | names[1])
        assert len(names[2]) == 4
        assert names[1]
        tested += parts[2]
    assert sorted(tested) == list(range(60))


def test_a_seed_divides_anew_and_equal_ones_alike(data):
    first, again, other = (sorted(rows(fold(data, 1, seed=seed)[2])) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_examples_without_identities_are_divided_one_by_one():
    data = Tensors(
        {"x": torch.arange(9.0)[:, None]}, rk.Signature({"x": rk.Field(kind="vector", shape=(1,))})
    )
    tested = [row for number in range(3) for row in rows(fold(data, number, count=3)[2])]
    assert sorted(tested) == list(range(9))


def test_the_statistics_are_those_of_the_training_part():
    """Of a table, and of one whose classes are renumbered."""
    frame = pd.DataFrame({"age": torch.randn(60).tolist(), "label": ["a", "b", "c"] * 20})
    table = Table(frame)
    numbers = {"label": [2, 1, 0]}
    for data in (table, table.renumber_classes(numbers, {"label": ["c", "b", "a"]})):
        train, _, test = fold(data, 0)
        ages = train.batch(range(len(train)))["x"].double()
        (column,) = train.signature["x"].columns
        assert column.mean == pytest.approx(ages.mean().item())
        assert column.std == pytest.approx(ages.std(correction=0).item())
        assert test.signature == train.signature
        assert column != data.signature["x"].columns[0]
        assert data.split(seed=0)[0].signature["x"].columns[0] != data.signature["x"].columns[0]


def test_named_columns_of_arrays_have_the_statistics_of_the_training_part():
    """A column that was described stays as it is, and a missing value has no part."""
    values = torch.randn(40, 4)
    values[::3, 0] = torch.nan
    values[:, 1:3] = torch.nn.functional.one_hot(torch.arange(40) % 2, 2).float()
    sex, size = rk.Column("sex", "category", classes=("f", "m")), rk.Column("size", mean=3.0, std=2.0)
    data = Arrays({"x": values}, columns={"x": ["age", sex, size]})
    for train, test in (fold(data, 0)[::2], data.split(seed=0)):
        batch = train.batch(range(len(train)))
        ages = batch["x"][:, 0][batch["x_mask"][:, 0]].double()
        age, *others = train.signature["x"].columns
        assert (age.mean, age.std) == pytest.approx((ages.mean().item(), ages.std(correction=0).item()))
        assert others == [sex, size]
        assert test.signature == train.signature
        assert age != data.signature["x"].columns[0]
    plain = Arrays({"x": values[:, 3:]})
    assert fold(plain, 0)[0].data is plain


def test_folds_that_cannot_be_are_refused(data):
    for options in ({"number": 5}, {"number": -1}, {"number": 0, "count": 1}):
        with pytest.raises(DataError, match="numbered from 0"):
            fold(data, **options)
    with pytest.raises(DataError, match="20 examples or groups that stay together are too few for 19 folds"):
        fold(data, 0, count=19)
    with pytest.raises(DataError, match="valid_share must lie between 0 and 1"):
        fold(data, 0, valid_share=1.0)
