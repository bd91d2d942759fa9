"""Examples as files: each format holds the values, nothing is replaced unasked, wrong targets are refused."""

import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reprkit.data.formats.example_files import check_target, write_examples
from reprkit.data.signature import Column, Field
from reprkit.errors import DataError

IMAGE = Field(kind="image", shape=(2, 3, 1), range=(-1.0, 1.0))
SERIES = Field(kind="sequence", shape=(None, 2))
COLUMNS = (Column("age", mean=3.0, std=2.0), Column("city", kind="category", classes=("Oslo", "Rome")))
TABLE = Field(kind="vector", shape=(3,), columns=COLUMNS)


def test_pixels_are_the_range_in_256_steps_and_values_outside_are_cut(tmp_path):
    values = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]).reshape(2, 3, 1)
    (file,) = write_examples(tmp_path / "a.png", [values], IMAGE)
    assert np.asarray(Image.open(file)).ravel().tolist() == [0, 0, 128, 191, 255, 255]
    files = write_examples(tmp_path / "folder", [values] * 11, IMAGE)
    assert [each.name for each in files][:2] == ["00.png", "01.png"]


def test_arrays_of_one_length_and_folders_of_any(tmp_path):
    rows = [np.full((length, 2), length, dtype=np.float32) for length in (2, 3)]
    with pytest.raises(DataError, match="different lengths"):
        write_examples(tmp_path / "a.npy", rows, SERIES)
    files = write_examples(tmp_path / "a", rows, SERIES, names=["x", "y"])
    assert [np.load(file).shape for file in files] == [(2, 2), (3, 2)]
    (file,) = write_examples(tmp_path / "a.npy", rows[:1], SERIES)
    assert np.load(file).shape == (1, 2, 2)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_have_the_table_s_columns(tmp_path, suffix):
    rows = [np.array([4.5, 0.2, 0.8], dtype=np.float32), np.array([1.0, 0.6, 0.4], dtype=np.float32)]
    (file,) = write_examples(tmp_path / f"a{suffix}", rows, TABLE)
    found = pd.read_csv(file) if suffix == ".csv" else pd.read_parquet(file)
    assert found.to_dict("list") == {"age": [4.5, 1.0], "city": ["Rome", "Oslo"]}


def test_parquet_without_pyarrow_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="pip install pyarrow"):
        check_target(tmp_path / "a.parquet", TABLE)
    check_target(tmp_path / "a.csv", TABLE)


def test_targets_that_cannot_be_meant_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    (tmp_path / "file").write_text("")
    (tmp_path / "x.npy").mkdir()
    for name, words in (
        ("a.pgn", "Did you mean '.png'"),
        ("full", "holds files already"),
        ("file", "is a file"),
        ("x.npy", "is a folder"),
    ):
        with pytest.raises(DataError, match=words):
            check_target(tmp_path / name, IMAGE)
    check_target(tmp_path / "full", IMAGE, overwrite=True)
    with pytest.raises(DataError, match="channels"):
        write_examples(tmp_path / "b.png", [np.zeros((2, 2, 5))], Field(kind="image", shape=(2, 2, 5)))
