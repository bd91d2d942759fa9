"""Rows of Arrow tables: equal to pyarrow's own, with lists of numbers as arrays."""

import numpy as np
import pytest

from reprkit.data.formats.arrow_rows import rows_of

pa = pytest.importorskip("pyarrow")

COLUMNS = {
    "vector": pa.array([[1.5, 2], [3, 4], [5, 6], [7, 8]], pa.list_(pa.float64())),
    "large": pa.array([[1, 2], [], [3], [4]], pa.large_list(pa.int16())),
    "fixed": pa.array([[1, 2], [3, 4], None, [7, 8]], pa.list_(pa.float32(), 2)),
    "steps": pa.array([[[1, 2], [3, 4]], [[5, 6]], [[7, 8]], [[9, 1]]], pa.list_(pa.list_(pa.int64()))),
    "missing number": pa.array([[1, None], [2], [3], [4]], pa.list_(pa.int64())),
    "missing list": pa.array([None, [1.0], [2.0], None], pa.list_(pa.float64())),
    "missing step": pa.array([[[1], None], [[2]], None, [[3]]], pa.list_(pa.list_(pa.int64()))),
    "missing in step": pa.array([[[1, None]], [[2, 3]], [], [[4, 5]]], pa.list_(pa.list_(pa.int64()))),
    "ragged": pa.array([[[1], [2, 3]], [[4]], [[]], [[5], [6]]], pa.list_(pa.list_(pa.float32()))),
    "deep": pa.array([[[[1]]], [[[2]]], [[[3]]], [[[4]]]], pa.list_(pa.list_(pa.list_(pa.int64())))),
    "truths": pa.array([[True], [False], [True], []], pa.list_(pa.bool_())),
    "texts": pa.array([["a"], ["b", "c"], [], None]),
    "text": pa.array(["a", None, "c", "d"]),
    "number": pa.array([1, 2, None, 4]),
    "file": pa.array([{"bytes": b"x", "path": None}] * 4),
}
ARRAYS = {
    "vector": [0, 1, 2, 3],
    "large": [0, 1, 2, 3],
    "fixed": [0, 1, 3],
    "steps": [0, 1, 2, 3],
    "missing number": [1, 2, 3],
    "missing list": [1, 2],
    "missing step": [1, 3],
    "missing in step": [1, 3],
    "ragged": [1, 3],
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("part", [slice(0, 4), slice(1, 3)])
def test_values_are_pyarrow_s_and_full_lists_of_numbers_are_arrays(name, part):
    column = COLUMNS[name]
    table = pa.table({name: pa.chunked_array([column[:1], column[1:]])})
    table = table.slice(part.start, part.stop - part.start)
    values = [row[name] for row in rows_of(table)]
    plain = [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
    assert plain == column.to_pylist()[part]
    arrays = [index + part.start for index, value in enumerate(values) if isinstance(value, np.ndarray)]
    assert arrays == [index for index in ARRAYS.get(name, []) if part.start <= index < part.stop]


def test_arrays_have_the_column_s_dtype_and_memory_of_their_own():
    table = pa.table({"x": COLUMNS["large"], "y": COLUMNS["steps"]})
    row = next(rows_of(table))
    assert (row["x"].dtype, row["y"].shape) == (np.int16, (2, 2))
    assert row["x"].base is None or row["x"].base.flags.owndata
    row["x"][0] = 9  # a view of Arrow's memory cannot be written
    assert table["x"][0].as_py() == [1, 2]
