"""JSON and arrays of files that may be damaged or hostile: bounded, and refused by one sentence."""

import io
import json
import zipfile

import numpy as np
import pytest

from reprkit.utils.array_archive import read_arrays
from reprkit.utils.json_shape import Each, Items, Needed, check_shape
from reprkit.utils.untrusted_json import parse_json, read_json


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested"),
        ("[" * 100 + "]" * 100, "nested more than 64 deep"),
        (b'"\xff"', "not UTF-8"),
        ('"\\ud800"', "surrogate"),
        ('{"\\udfff": 1}', "surrogate"),
        (str(2**63), "64 bits"),
        ("-" + "9" * 400, "64 bits"),
        ("9" * 5000, "too many digits"),
        ("{", "Expecting"),
        ("", "Expecting"),
    ],
)
def test_json_that_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_json_that_is_read(tmp_path):
    deep = "[" * 64 + "1" + "]" * 64
    assert parse_json(deep) == json.loads(deep)
    assert parse_json('{"a": [1.5, null, true, "é😀"], "b": -9223372036854775807}')["a"][3] == "é😀"
    path = tmp_path / "x.json"
    path.write_text("{}")
    assert read_json(path) == {}
    with pytest.raises(OSError, match="no regular file"):
        read_json(tmp_path)
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(ValueError, match="bytes"):
        read_json(path)


SHAPE = {
    "name": Needed(str),
    "step": int,
    "share": float,
    "on": bool,
    "pairs": Items(Needed(float), length=2),
    "parts": Each({"x": int}),
}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "it must be an object"),
        ({}, "name is missing"),
        ({"name": None}, "name is missing"),
        ({"name": 1}, "name must be a text"),
        ({"name": "a", "step": 1.0}, "step must be an integer"),
        ({"name": "a", "step": True}, "step must be an integer"),
        ({"name": "a", "share": False}, "share must be a number"),
        ({"name": "a", "on": 1}, "on must be true or false"),
        ({"name": "a", "pairs": [1]}, "pairs must be a list of 2"),
        ({"name": "a", "pairs": [1, "x"]}, r"pairs\[1\] must be a number"),
        ({"name": "a", "parts": {"b": {"x": "y"}}}, "parts.b.x must be an integer"),
        ({"name": "a", "parts": {"b c": 1}}, "parts.'b c' must be an object"),
    ],
)
def test_shapes_that_differ_are_named(value, message):
    with pytest.raises(ValueError, match=message):
        check_shape(value, SHAPE)


def test_shapes_that_agree():
    check_shape(
        {
            "name": "a",
            "step": None,
            "share": 1,
            "on": True,
            "pairs": [1, 2.5],
            "parts": {"b": None},
            "more": [{}],
        },
        SHAPE,
    )


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def header(shape, descr="<f8"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def test_arrays_are_those_of_numpy(tmp_path):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3), "b": np.array("text é"), "c": np.zeros((0, 3), np.int32),
        "d": np.asfortranarray(np.eye(3)), "e": np.array([True, False]), "f/0": np.float16([1.5]),
    }  # fmt: skip
    path = tmp_path / "x.npz"
    np.savez_compressed(path, **arrays)
    found = read_arrays(path)
    assert found.keys() == arrays.keys()
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize(
    "content",
    [
        header((2**40,)) + bytes(64),
        header((2**31, 2**31, 2**31)) + bytes(64),
        header((-8,)) + bytes(64),
        header((1,), "|O") + bytes(8),
        header((1,), "<M8[s]") + bytes(8),
        header((1,), "<U400000000") + bytes(8),
        header((8,)) + bytes(63),
        b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16,
        b"\x93NUMPY\x01\x00\x10\x00{'descr': '''   ",
        b"\x93NUMPY\x09\x00",
        b"no array",
        b"",
    ],
)
def test_arrays_that_are_refused(content, tmp_path):
    with pytest.raises(ValueError, match="array 'x.npy'"):
        read_arrays(archive(tmp_path / "x.npz", x=content))


def test_archives_that_are_refused(tmp_path):
    path = archive(tmp_path / "x.npz", x=header((2**25,)) + bytes(2**28))  # 256 MiB of zeros in 256 KiB
    assert path.stat().st_size < 2**20
    with pytest.raises(ValueError, match="at most"):
        read_arrays(path)
    path = archive(tmp_path / "y.npz", x=header((8,)) + bytes(64))
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="Bad|File|not a zip|truncated"):
            read_arrays(path)
