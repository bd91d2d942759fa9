"""Tables: the kind of each column, gaps, statistics of the training part, groups, and the ways in."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.utils import Bunch

import reprkit as rk
from reprkit.data.formats.frame_columns import DAYS, decode_rows
from reprkit.data.formats.table import Table
from reprkit.errors import DataError, PartArgumentError


def customers(rows=40):
    """Numbers and texts with gaps, a boolean, a date, and a label."""
    return pd.DataFrame(
        {
            "age": [30.0, None, 50.0, 41.0] * (rows // 4),
            "city": ["Rome", "Oslo", None, "Rome"] * (rows // 4),
            "member": [True, False, True, True] * (rows // 4),
            "since": ["2020-01-01", "2021-06-30", "2020-01-01", "2022-12-31"] * (rows // 4),
            "target": ["good", "bad", "good", "good"] * (rows // 4),
        }
    )


@pytest.fixture
def csv(tmp_path):
    customers().to_csv(tmp_path / "customers.csv", index=False)
    return tmp_path / "customers.csv"


def test_each_column_by_the_stated_rules(csv):
    data = rk.dataset(str(csv))
    age, city, member, since = data.signature["x"].columns
    assert (age.kind, age.mean) == ("number", pytest.approx(121 / 3))
    assert (city.kind, city.classes) == ("category", ("Oslo", "Rome"))
    assert (member.kind, member.classes) == ("category", ("False", "True"))
    assert (since.kind, since.unit) == ("number", DAYS)
    assert data.facts["classes"] == ["bad", "good"]
    assert data.facts["columns"] == (
        "x: table of 4 columns (1 number, 2 categories, 1 date), 40 rows; label 'target': 2 classes"
    )
    assert data.reference == f"reprkit/table(path={str(csv)!r})"


def test_rows_in_the_table_s_units_with_gaps_as_missing_values(csv):
    batch = rk.dataset(str(csv)).batch([0, 1, 2])
    day = (pd.Timestamp("2021-06-30") - pd.Timestamp("1970-01-01")).days
    assert batch["x"][0].tolist() == [30, 0, 1, 0, 1, 18262]
    assert batch["x"][1].tolist() == [0, 1, 0, 1, 0, day]
    assert batch["x_mask"][1].tolist() == [False, True, True, True, True, True]
    assert batch["x_mask"][2].tolist() == [True, False, False, True, True, True]
    assert batch["label"].tolist() == [1, 0, 1]


def test_rows_come_back_in_their_own_units(csv):
    data, table = rk.dataset(str(csv)), customers().drop(columns="target")
    batch = data.batch(range(8))
    back = decode_rows(batch["x"], data.signature["x"].columns, batch["x_mask"])
    assert back["age"].equals(table["age"][:8])
    assert back["city"].isna().tolist() == table["city"][:8].isna().tolist()
    assert back["city"].dropna().tolist() == table["city"][:8].dropna().tolist()
    assert back["since"].dt.strftime("%Y-%m-%d").tolist() == table["since"][:8].tolist()


@pytest.mark.parametrize("make", ["csv", "tsv", "semicolon", "parquet", "pandas", "bunch"])
def test_every_way_in_gives_the_same_examples(tmp_path, make):
    frame = customers()
    path = tmp_path / f"t.{'csv' if make == 'semicolon' else make}"
    if make == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    elif make in ("csv", "tsv", "semicolon"):
        frame.to_csv(path, index=False, sep={"csv": ",", "tsv": "\t", "semicolon": ";"}[make])
    source = {
        "pandas": lambda: rk.dataset(frame),
        "bunch": lambda: rk.dataset(Bunch(data=frame.drop(columns="target"), target=frame["target"])),
        "semicolon": lambda: Table(path, separator=";"),
    }.get(make, lambda: rk.dataset(path))
    data, wanted = source(), Table(frame)
    assert data.signature == wanted.signature
    for name, value in wanted.batch(range(40)).items():
        assert torch.equal(data.batch(range(40))[name], value), name


def test_polars_frames():
    polars = pytest.importorskip("polars")
    frame = customers()
    data = rk.dataset(polars.DataFrame({name: frame[name].tolist() for name in frame}))
    assert data.signature["x"].columns[1].classes == ("Oslo", "Rome")


def test_bunch_keeps_names_and_classes():
    data, bunch = rk.dataset(load_breast_cancer()), load_breast_cancer()
    assert [column.name for column in data.signature["x"].columns] == list(bunch.feature_names)
    names = data.facts["classes"]
    found = [names[index] for index in data.batch(range(569))["label"]]
    assert found == [bunch.target_names[index] for index in bunch.target]


def test_a_target_that_is_no_class_is_refused_with_the_call_that_settles_it():
    with pytest.raises(
        DataError, match=r"'target' \(214 different values\).*\n.*columns=\{'target': 'drop'\}"
    ):
        rk.dataset(load_diabetes())
    assert len(Table(load_diabetes(), columns={"target": "drop"}).signature["x"].columns) == 10


def test_statistics_and_classes_are_those_of_the_training_part():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=100), "b": ["u", "v"] * 50})
    data = Table(frame)
    test_rows = data.split()[1].indices
    frame.loc[int(test_rows[0]), "b"] = "only in test"
    frame.loc[int(test_rows[1]), "a"] = 1e6
    train, test = Table(frame).split()
    a, b = train.signature["x"].columns
    assert a.mean == pytest.approx(frame["a"][train.indices.numpy()].mean(), rel=1e-6)
    assert a.std == pytest.approx(frame["a"][train.indices.numpy()].std(ddof=0), rel=1e-6)
    assert b.classes == ("u", "v")
    assert test.signature == train.signature
    assert test.facts["classes not learned"] == {"b": 1}
    assert test[0]["x_mask"].tolist() == [True, False, False]


def test_groups_stay_together_and_more_rows_change_no_group(csv):
    frame = pd.DataFrame({"a": np.arange(300.0), "patient": np.repeat(np.arange(60), 5)})
    parts = Table(frame, group="patient").split(seed=3, valid=True)
    groups = [set(frame["patient"][part.indices.numpy()]) for part in parts]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 60
    assert [column.name for column in parts[0].signature["x"].columns] == ["a"]
    more = pd.concat([pd.DataFrame({"a": [0.0] * 40, "patient": range(100, 140)}), frame])
    again = Table(more, group="patient").split(seed=3, valid=True)
    for part, group in zip(again, groups, strict=True):
        assert group <= set(more["patient"].to_numpy()[part.indices.numpy()])


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"agee": "number"}, "no column 'agee'.*Did you mean 'age'"),
        ({"age": "numbers"}, "no kind of column 'numbers'.*Did you mean 'number'"),
        ({"age": "label", "city": "label"}, "one column is the label, not 2"),
        ({"city": "number"}, "'city' holds 'Rome' in row 0, which is not a number, and 29 more"),
        ({"city": "date"}, "'city' holds 'Rome' in row 0, which is not a date"),
        (dict.fromkeys(("age", "city", "member", "since"), "drop"), "no column for x"),
    ],
)
def test_wrong_declarations(columns, text):
    with pytest.raises(DataError, match=f"(?s){text}"):
        Table(customers(), columns=columns)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a;b\n1,5;2\n", r"separator=';'"),
        (b"1.5,2.5\n3,4\n", "first line .* holds numbers, not names"),
        (b"", "cannot be read as a table: No columns to parse"),
        ("näme,b\n1,2\n".encode("latin-1"), "no utf-8.* text.*\n.*encoding='latin-1'"),
        (b"a,b\n1,2\n1,2,3,4\n", "cannot be read as a table"),
        (b"name,a\n" + b"".join(b"n%d,1\n" % i for i in range(60)), r"columns=\{'name': 'drop'\}"),
        (b"a,label\n1,x\n2,\n", "1 of 2 rows have no label"),
        (b"a,b\n", "has no column for x"),
    ],
)
def test_files_that_are_no_plain_table(tmp_path, content, text):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=text):
        rk.dataset(tmp_path / "t.csv")


def test_other_encodings_and_marks_of_missing_values(tmp_path):
    (tmp_path / "t.csv").write_bytes("größe,b\n1,2\n?,4\n".encode("latin-1"))
    data = Table(tmp_path / "t.csv", encoding="latin-1", missing=["?"])
    assert data.signature["x"].columns[0].name == "größe"
    assert data[1]["x_mask"].tolist() == [False, True]
    with pytest.raises(PartArgumentError, match="missing='.' must be a list"):
        Table(tmp_path / "t.csv", encoding="latin-1", missing="?")


def test_facts_name_dropped_columns_and_rows(tmp_path):
    (tmp_path / "t.csv").write_text(",a,empty,same\n0,1,,k\n1,,,\n2,3,,k\n")
    facts = rk.dataset(tmp_path / "t.csv").facts
    assert facts["dropped"] == {
        "Unnamed: 0": "it counts the rows",
        "empty": "no value",
        "same": "always 'k'",
    }
    assert facts["rows left out"] == 1


def test_a_model_of_a_table_trains_and_keeps_its_columns(tmp_path):
    train, test = Table(customers(200)).split()
    model = rk.build(data=train, encoder="mlp(width=16)", latent="continuous(dim=2)", decoder="mlp(width=16)")
    before = rk.evaluate(model, test, "reconstruction")["reconstruction"]["nll"]
    rk.fit(model, train, steps=30, batch=16, lr=1e-2)
    assert rk.evaluate(model, test, "reconstruction")["reconstruction"]["nll"] < before
    loaded = rk.load(model.save(tmp_path / "model"))
    assert loaded.signature == train.signature
    assert loaded.signature["x"].columns[3].unit == DAYS


def test_new_rows_are_read_with_the_learned_columns():
    learned = Table(customers())
    new = customers(4).assign(note=["n1", "n2", "n3", "n4"], city=["Rome", "Paris", None, "Oslo"])
    new = new.drop(columns="target")[["note", "since", "city", "age", "member"]]
    data = Table(new, columns={"note": "drop"}, like=learned)
    assert data.signature["x"] == learned.signature["x"]
    assert data.facts["classes not learned"] == {"city": 1}
    assert data[0]["x"].tolist() == learned[0]["x"].tolist()
    assert data[1]["x_mask"].tolist() == [False, False, False, True, True, True]
    with pytest.raises(DataError, match="no column 'age'"):
        Table(new.drop(columns="age"), columns={"note": "drop"}, like=learned)


def test_split_keeps_the_learned_columns():
    learned = Table(customers())
    new = Table(customers(20).assign(city="Oslo"), like=learned)
    for part in new.split():
        assert part.signature["x"] == learned.signature["x"]


def test_a_constant_number_has_the_deviation_1():
    """0.1 seven times: the mean is rounded, and the computed deviation is 1e-17."""
    frame = pd.DataFrame({"a": [0.1] * 7, "b": np.arange(7.0)})
    assert Table(frame).signature["x"].columns[0].std == 1.0
    arrays = rk.data.Arrays(frame.to_numpy(), columns={"x": ["a", "b"]})
    assert arrays.signature["x"].columns[0].std == 1.0
