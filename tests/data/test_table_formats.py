"""Tables from JSON Lines, arrays and streams: names, scales and categories of columns, and missing values, as from ``hub``."""

import csv
import json

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.data import Arrays, Hub, HubStream, JsonLines
from reprkit.errors import DataError

ROWS = [
    {"age": 20, "trade": "cook", "height": 1.5, "native": True},
    {"age": 40, "trade": "smith", "height": None, "native": False},
    {"age": 60, "trade": "cook", "height": 1.9, "native": True},
]
NAMES = ["age", "trade", "height"]
DECLARED = [
    rk.Column("age", mean=50.0, std=20.0),
    rk.Column("trade", "category", classes=("cook", "smith", "tailor")),
    rk.Column("height", mean=1.7, std=0.2),
]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_csv(path):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ROWS[0]))
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def expect_declared(batch):
    assert batch["x"].tolist() == [
        [20.0, 1.0, 0.0, 0.0, pytest.approx(1.5)],
        [40.0, 0.0, 1.0, 0.0, 0.0],
        [60.0, 1.0, 0.0, 0.0, pytest.approx(1.9)],
    ]
    assert batch["x_mask"].tolist() == [[True] * 5, [True] * 4 + [False], [True] * 5]


# ------------------------------------------------------------------ JSON Lines


def test_json_lines_estimate_columns_from_all_records(tmp_path):
    data = JsonLines(write(tmp_path / "t.jsonl", ROWS), fields={"x": [*NAMES, "native"]})
    age, trade, height, native = data.signature["x"].columns
    assert (age.kind, age.mean, age.std) == ("number", 40.0, pytest.approx(np.std([20, 40, 60])))
    assert (trade.kind, trade.classes) == ("category", ("cook", "smith"))
    assert (height.mean, height.std) == (pytest.approx(1.7), pytest.approx(0.2))
    assert native.classes == ("False", "True")
    batch = data.batch([0, 1])
    assert batch["x"][0].tolist() == [20.0, 1.0, 0.0, pytest.approx(1.5), 0.0, 1.0]
    assert batch["x_mask"].tolist() == [[True] * 6, [True, True, True, False, True, True]]


def test_json_lines_without_missing_values_have_no_mask(tmp_path):
    data = JsonLines(write(tmp_path / "t.jsonl", ROWS[::2]), fields={"x": ["age", "height"]})
    assert "x_mask" not in data.batch([0, 1])


def test_an_absent_name_is_a_missing_value(tmp_path):
    rows = [*ROWS, {"age": 30, "trade": "smith"}]
    data = JsonLines(write(tmp_path / "t.jsonl", rows), fields={"x": NAMES})
    assert data.batch([3])["x_mask"].tolist() == [[True, True, True, False]]


def test_json_lines_take_declared_columns(tmp_path):
    data = JsonLines(write(tmp_path / "t.jsonl", ROWS), fields={"x": DECLARED})
    assert data.signature["x"].columns == tuple(DECLARED)
    expect_declared(data.batch([0, 1, 2]))


def test_a_number_is_a_category_where_it_is_named(tmp_path):
    rows = [{"age": 1, "kind": number} for number in (3, 5, 3)]
    data = JsonLines(write(tmp_path / "t.jsonl", rows), fields={"x": ["age", "kind"]}, categories=["kind"])
    assert data.signature["x"].columns[1].classes == ("3", "5")


def test_wrong_names_of_json_columns_are_refused(tmp_path):
    path = write(tmp_path / "t.jsonl", ROWS)
    with pytest.raises(DataError, match="no 'agee' for field 'x'.*'age'"):
        JsonLines(path, fields={"x": ["agee", "trade"]})
    with pytest.raises(DataError, match="categories: 'trades' is none of the columns"):
        JsonLines(path, fields={"x": NAMES}, categories=["trades"])
    with pytest.raises(DataError, match="categories: 'age' is none of the columns"):
        JsonLines(path, fields={"x": "trade"}, categories=["age"])
    with pytest.raises(DataError, match="field 'x' is a table"):
        JsonLines(path, fields={"x": NAMES}, kinds={"x": "vector"})


# ------------------------------------------------------------------ arrays

TABLE = np.array([[20, 0, 1.5], [40, 1, np.nan], [60, 0, 1.9]])


def test_arrays_take_classes_by_number():
    data = Arrays({"x": TABLE}, columns={"x": DECLARED})
    assert data.signature["x"].columns == tuple(DECLARED)
    expect_declared(data.batch([0, 1, 2]))


def test_arrays_take_one_hot_categories_and_a_mask():
    rows = np.array([[20, 1, 0, 0, 1.5], [40, 0, 1, 0, 9.0], [60, 1, 0, 0, 1.9]], dtype="float32")
    mask = np.ones((3, 5), dtype=bool)
    mask[1, 4] = False
    expect_declared(Arrays({"x": rows, "x_mask": mask}, columns={"x": DECLARED}).batch([0, 1, 2]))


def test_a_name_alone_is_a_number_with_the_moments_of_the_array():
    data = Arrays({"x": TABLE}, columns={"x": ["age", DECLARED[1], "height"]})
    age, _, height = data.signature["x"].columns
    assert (age.mean, age.std) == (40.0, pytest.approx(np.std([20, 40, 60])))
    assert (height.mean, height.std) == (pytest.approx(1.7), pytest.approx(0.2))


def test_arrays_without_missing_values_have_no_mask():
    assert "x_mask" not in Arrays({"x": TABLE[::2]}, columns={"x": NAMES}).batch([0])


def test_a_table_trains_and_is_saved(tmp_path):
    generator = np.random.default_rng(0)
    rows = np.stack(
        [generator.normal(50, 20, 60), generator.integers(0, 3, 60), generator.normal(2, 1, 60)], 1
    )
    rows[::7, 2] = np.nan
    data = Arrays({"x": rows}, columns={"x": DECLARED})
    model = rk.build(data=data, encoder="mlp(width=8)", latent="continuous(dim=2)", decoder="mlp(width=8)")
    for step in rk.loop(model, data, steps=3, batch=16, log_every=0):
        step.backward(step.model(step.batch).total)
        step.update()
    model.save(tmp_path)
    assert rk.load(tmp_path).signature["x"].columns == tuple(DECLARED)


@pytest.mark.parametrize(
    ("value", "columns", "message"),
    [
        (TABLE, NAMES[:2], "the array has 3 elements, and 2 columns have 2, or 2 with"),
        (TABLE[:, 0], NAMES[:1], r"a table is \(n d\), and the array has shape \(3,\)"),
        (TABLE + 2, DECLARED, "column 'trade' holds 3: the number of a class is from 0 to 2"),
    ],
)
def test_arrays_that_do_not_fit_their_columns_are_refused(value, columns, message):
    with pytest.raises(DataError, match=message):
        Arrays({"x": value}, columns={"x": columns})


def test_columns_exclude_other_declarations():
    with pytest.raises(DataError, match="omit mmap, kinds, ranges, vocabs"):
        Arrays({"x": TABLE}, columns={"x": NAMES}, ranges={"x": (0, 1)})
    with pytest.raises(DataError, match="columns: there is no field 'y'"):
        Arrays({"x": TABLE}, columns={"y": NAMES})


# ------------------------------------------------------------------ streams


def test_a_stream_reads_declared_columns(tmp_path):
    pytest.importorskip("datasets")
    stream = HubStream(write_csv(tmp_path / "t.csv"), columns={"x": DECLARED})
    assert stream.signature["x"].columns == tuple(DECLARED)
    examples = [stream.decode(row) for row in stream.read()]
    expect_declared({name: torch.stack([each[name] for each in examples]) for name in ("x", "x_mask")})


def test_a_stream_needs_every_column_declared(tmp_path):
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match="cannot know mean, standard deviation or classes of column 'height'"):
        HubStream(write_csv(tmp_path / "t.csv"), columns={"x": [*DECLARED[:2], "height"]})


def test_the_hub_takes_declared_columns_too(tmp_path):
    pytest.importorskip("datasets")
    data = Hub(write_csv(tmp_path / "t.csv"), columns={"x": DECLARED})
    assert data.signature["x"].columns == tuple(DECLARED)
    expect_declared(data.batch([0, 1, 2]))
