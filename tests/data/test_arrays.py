import warnings

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.data import Arrays, Field
from reprkit.errors import DataError, PartArgumentError

rng = np.random.default_rng(0)


def whole(data):
    return data.batch(range(len(data)))


@pytest.mark.parametrize(
    ("array", "field"),
    [
        (rng.normal(size=(7, 5)), Field(kind="vector", shape=(5,))),
        (rng.normal(size=(7, 5)).astype("float16"), Field(kind="vector", shape=(5,))),
        (rng.normal(size=(7, 5, 2)).astype("float32"), Field(kind="sequence", shape=(5, 2))),
        (rng.random((7, 4, 6, 3)), Field(kind="image", shape=(4, 6, 3), range=(0.0, 1.0))),
        (rng.random((7, 4, 6, 3)) * 2 - 1, Field(kind="image", shape=(4, 6, 3), range=(-1.0, 1.0))),
        (rng.normal(size=(7, 4, 6, 3)), Field(kind="image", shape=(4, 6, 3))),
        (rng.integers(0, 9, (50, 5)).astype("int16"), Field(kind="tokens", shape=(5,), vocab=9)),
        (rng.integers(0, 9, (50, 5)).astype("uint16"), Field(kind="tokens", shape=(5,), vocab=9)),
        (rng.random((7, 5)) < 0.5, Field(kind="vector", shape=(5,), range=(0.0, 1.0), vocab=2)),
        (rng.random((7, 5, 2)) < 0.5, Field(kind="sequence", shape=(5, 2), range=(0.0, 1.0), vocab=2)),
        (rng.random((7, 4, 4, 1)) < 0.5, Field(kind="image", shape=(4, 4, 1), range=(0.0, 1.0), vocab=2)),
        (
            rng.integers(0, 256, (7, 4, 4, 3)).astype("uint8"),
            Field(kind="image", shape=(4, 4, 3), range=(0.0, 1.0)),
        ),
    ],
)
@pytest.mark.parametrize("form", ["numpy", "torch"])
def test_field_is_inferred_and_values_are_unchanged(array, field, form):
    data = Arrays({"x": array if form == "numpy" else torch.from_numpy(array)})
    assert data.signature["x"] == field
    x = whole(data)["x"]
    assert x.dtype == (torch.int64 if field.kind == "tokens" else torch.float32)
    expected = array / 255 if array.dtype == np.uint8 else array
    assert np.allclose(x.numpy(), expected, atol=1e-6)
    assert torch.equal(data[2]["x"], x[2])


def test_pixels_are_stored_as_bytes_and_scaled_exactly():
    levels = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)
    data = Arrays(levels)
    assert torch.equal(whole(data)["x"].flatten(), torch.arange(256) / 255)
    assert data._values["x"].dtype == torch.uint8
    named = Arrays(levels, ranges={"x": (0, 2)}).signature["x"]
    assert named.range == (0.0, 2.0)


@pytest.mark.parametrize(
    "label", [rng.integers(0, 3, 20), rng.integers(0, 3, (20, 1)).astype("uint8"), rng.random(20) < 0.5]
)
def test_labels(label):
    data = Arrays({"x": rng.normal(size=(20, 2)), "label": label})
    field = data.signature["label"]
    assert (field.kind, field.shape, field.vocab) == ("label", (), int(label.max()) + 1)
    batch = whole(data)
    assert batch["label"].dtype == torch.int64
    assert batch["label"].tolist() == label.reshape(-1).astype(int).tolist()


def test_kinds_ranges_and_vocabs_can_be_declared():
    gray = rng.integers(0, 256, (6, 4, 4)).astype("uint8")
    assert Arrays(gray, kinds={"x": "image"}).signature["x"].shape == (4, 4, 1)
    counts = rng.integers(0, 50, (6, 4)).astype("int32")
    data = Arrays(counts, kinds={"x": "vector"}, ranges={"x": (0, 50)})
    assert data.signature["x"] == Field(kind="vector", shape=(4,), range=(0.0, 50.0))
    assert torch.equal(whole(data)["x"], torch.from_numpy(counts).float())
    ink = (rng.random((6, 4)) < 0.5).astype("float64")
    assert Arrays(ink, vocabs={"x": 2}).signature["x"].likelihood == "bernoulli"
    assert Arrays(counts, vocabs={"x": 60}).signature["x"].vocab == 60
    assert Arrays(rng.random((6, 4, 4, 1)), ranges={"x": None}).signature["x"].range is None


def test_varying_lengths():
    ragged = Arrays({"x": [np.arange(n) for n in (3, 1, 5)], "label": [0, 1, 0]})
    assert ragged.signature["x"] == Field(kind="tokens", shape=(None,), vocab=5)
    batch = ragged.batch([1, 0])
    assert batch["x"].tolist() == [[0, 0, 0, 0, 0], [0, 1, 2, 0, 0]]
    assert batch["x_mask"].tolist() == [[True] + [False] * 4, [True] * 3 + [False] * 2]
    frames = rng.normal(size=(4, 6, 2))
    mask = np.arange(6) < np.array([[6], [2], [3], [1]])
    masked = Arrays({"x": frames, "x_mask": mask})
    assert masked.signature["x"].shape == (None, 2)
    assert masked[1]["x_mask"].sum() == 2
    padded = Arrays(
        {"x": [[3, 1, -100], [2, -100, -100]], "x_mask": [[True, True, False], [True, False, False]]}
    )
    assert whole(padded)["x"].tolist() == [[3, 1, 0], [2, 0, 0]]
    assert padded.signature["x"].vocab == 4
    gaps = np.where(mask[..., None], frames, np.nan)
    assert whole(Arrays({"x": gaps, "x_mask": mask}))["x"].isfinite().all()
    with pytest.raises(DataError, match=r"has shape \(3, 4\) in example 1"):
        Arrays([np.ones((2, 5)), np.ones((3, 4))])
    with pytest.raises(DataError, match="example 2 of field 'x' has no valid step"):
        Arrays({"x": frames, "x_mask": mask & (np.arange(4) != 2)[:, None]})
    with pytest.raises(DataError, match=r"'x_mask' has shape \(4, 5\)"):
        Arrays({"x": frames, "x_mask": mask[:, :5]})


def test_files(tmp_path):
    x, label = rng.normal(size=(9, 4)), rng.integers(0, 2, 9)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "label.npy", label)
    np.savez(tmp_path / "set.npz", x=x, label=label)
    np.savez_compressed(tmp_path / "other.npz", train_images=x, train_labels=label, test_images=x[:2])
    np.savez(tmp_path / "one.npz", x)
    expected = torch.from_numpy(x).float()
    renamed = Arrays(tmp_path / "other.npz", fields={"x": "train_images", "label": "train_labels"})
    for data in (
        Arrays(tmp_path / "set.npz"),
        Arrays(str(tmp_path)),
        Arrays(tmp_path, mmap=True, vocabs={"label": 2}),
        renamed,
    ):
        assert sorted(data.signature) == ["label", "x"]
        batch = whole(data)
        assert torch.equal(batch["x"], expected)
        assert batch["label"].tolist() == label.tolist()
    for data in (Arrays(tmp_path / "x.npy"), Arrays(tmp_path / "one.npz")):
        assert torch.equal(whole(data)["x"], expected)
    assert Arrays(tmp_path / "set.npz").name == "set"


def test_mapped_file_is_read_lazily(tmp_path):
    stream = np.lib.format.open_memmap(
        tmp_path / "big.npy", mode="w+", dtype="uint8", shape=(200_000, 64, 64, 3)
    )
    stream[7] = 255  # 2.4 GB on paper, one page on the disk
    stream.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = Arrays(tmp_path / "big.npy", mmap=True)
        batch = data.batch([0, 7])
    assert (len(data), data.signature["x"].range) == (200_000, (0.0, 1.0))
    assert batch["x"].flatten(1).mean(1).tolist() == [0.0, 1.0]
    batch["x"].zero_()
    assert stream[7].min() == 255


def test_memory_is_shared_where_possible_and_copied_otherwise():
    shared = np.zeros((4, 3), dtype="float32")
    data = Arrays(shared)
    shared[2] = 1
    assert data[2]["x"].tolist() == [1, 1, 1]
    fixed = np.zeros((4, 3), dtype="float32")
    fixed.flags.writeable = False
    big_endian, flipped = np.ones((4, 3), dtype=">f4"), np.arange(12.0).reshape(4, 3)[::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert whole(Arrays(fixed))["x"].sum() == 0
        assert whole(Arrays(big_endian))["x"].sum() == 12
        assert whole(Arrays(flipped))["x"][0].tolist() == [9, 10, 11]
    assert not whole(Arrays(torch.ones(4, 3, requires_grad=True)))["x"].requires_grad


INVALID = {
    "text": ({"x": np.array([["a", "b"]])}, {}, r"holds <U1 values, not numbers\n.*np.unique"),
    "objects": ({"x": np.array([[None]])}, {}, "object values"),
    "complex": ({"x": np.ones((2, 2), dtype="complex64")}, {}, "real and imaginary"),
    "complex tensor": ({"x": torch.ones(2, 2, dtype=torch.complex64)}, {}, "dense and real"),
    "empty": ({"x": np.zeros((0, 4))}, {}, r"field 'x' is empty: its shape is \(0, 4\)"),
    "scalar": ({"x": np.float64(3)}, {}, "is empty"),
    "nan": (
        {"x": np.array([[0, 1], [2, np.nan]])},
        {},
        r"holds nan at \[1, 1\] of the data set \(example 1\)\n.*nan_to_num",
    ),
    "inf": ({"x": np.array([[0, 1], [-np.inf, 1]])}, {}, r"holds -inf at \[1, 0\]"),
    "too large for float32": ({"x": np.array([[1e300, 1]])}, {}, "holds inf"),
    "pixels as floats": ({"x": np.full((2, 8, 8, 1), 200.0)}, {}, "divide by 255"),
    "range": (
        {"x": np.full((2, 3), 200.0)},
        {"ranges": {"x": (0, 1)}},
        r"200 at \[0, 0\].*\(0.0, 1.0\)\n.*divide by 255",
    ),
    "range -1": ({"x": np.full((2, 3), 200.0)}, {"ranges": {"x": (-1, 1)}}, "divide by 127.5 and subtract 1"),
    "other range": ({"x": np.full((2, 3), -9.0)}, {"ranges": {"x": (0, 1)}}, "rescale the data, or declare"),
    "not binary": ({"x": np.array([[0.0, 0.5]])}, {"vocabs": {"x": 2}}, r"0.5 at \[0, 1\].*only 0 and 1"),
    "vocab": (
        {"x": np.array([[0, 1], [7, 8]])},
        {"vocabs": {"x": 5}},
        r"holds 7 at \[1, 0\].*and 1 more.*0 to 4",
    ),
    "negative symbol": ({"x": np.array([[0, -1]])}, {}, r"-1 at \[0, 1\]"),
    "negative label": ({"x": np.ones((2, 2)), "label": [-1, 0]}, {}, "number the classes from 0"),
    "float label": ({"x": np.ones((2, 2)), "label": [0.0, 1.0]}, {}, r"astype\('int64'\)"),
    "float tokens": ({"x": np.ones((2, 2))}, {"kinds": {"x": "tokens"}}, "symbols are integers"),
    "float row": ({"x": np.ones(3)}, {}, r"reshape\(-1, 1\)"),
    "gray pixels": ({"x": np.ones((2, 8, 8), dtype="uint8")}, {}, r"kinds=\{'x': 'image'\}"),
    "integers": (
        {"x": np.ones((2, 8, 8), dtype="int64")},
        {},
        r"ambiguous\n  declare kinds=\{'x': ...\}, one of image",
    ),
    "channels first": (
        {"x": np.ones((2, 3, 32, 32))},
        {},
        r"channels first \(n c h w\).*\n.*transpose\(0, 2, 3, 1\)",
    ),
    "axes": ({"x": np.ones((2, 3))}, {"kinds": {"x": "image"}}, r"\(n h w c\)"),
    "lengths": ({"x": np.ones((3, 2)), "label": [0, 1]}, {}, "different numbers of examples: x 3, label 2"),
    "unknown kind": ({"x": np.ones((3, 2))}, {"kinds": {"x": "imag"}}, "Did you mean 'image'"),
    "unknown field": ({"x": np.ones((3, 2))}, {"kinds": {"y": "image"}}, "kinds: there is no field 'y'"),
    "no x": ({"a": np.ones((3, 2)), "b": np.ones((3, 2))}, {}, "none of them called 'x'"),
    "fields": (
        {"a": np.ones((3, 2))},
        {"fields": {"x": "aa"}},
        "no array 'aa' for field 'x'. Did you mean 'a'",
    ),
    "mmap": ({"x": np.ones((3, 2))}, {"mmap": True}, "already in memory"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_arrays_raise(case):
    arrays, options, says = INVALID[case]
    with pytest.raises((DataError, PartArgumentError), match=says):
        Arrays(arrays, **options)


def test_reported_index_counts_over_the_whole_data_set():
    x = np.zeros((40_000, 1000), dtype="float32")  # more than is looked at in one go
    x[39_000, 5] = np.nan
    with pytest.raises(DataError, match=r"nan at \[39000, 5\] of the data set \(example 39000\)"):
        Arrays(x)


def test_unreadable_files_raise(tmp_path):
    with pytest.raises(DataError, match=r"no file '.*nowhere.npz' \(looked in"):
        Arrays(tmp_path / "nowhere.npz")
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "object.npz", x=np.array([{"a": 1}], dtype=object))
    for name in ("object.npy", "object.npz"):
        with pytest.raises(DataError, match=r"pickle.*never loads"):
            Arrays(tmp_path / name)
    (tmp_path / "torn.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "torn.npz").write_bytes(b"no archive")
    (tmp_path / "data.csv").write_text("1,2")
    (tmp_path / "folder").mkdir()
    for name in ("torn.npy", "torn.npz"):
        with pytest.raises(DataError, match="cannot be read"):
            Arrays(tmp_path / name)
    with pytest.raises(DataError, match=r"np.savez"):
        Arrays(tmp_path / "data.csv")
    with pytest.raises(DataError, match=r"holds no \.npy files"):
        Arrays(tmp_path / "folder")
    np.savez(tmp_path / "ok.npz", x=np.ones((2, 2)))
    with pytest.raises(DataError, match=r"not for \.npz"):
        Arrays(tmp_path / "ok.npz", mmap=True)
    np.save(tmp_path / "tokens.npy", np.ones((3, 4), dtype="uint16"))
    with pytest.raises(DataError, match="declare vocabs="):
        Arrays(tmp_path / "tokens.npy", mmap=True)
    assert Arrays(tmp_path / "tokens.npy", mmap=True, vocabs={"x": 5}).batch([0])["x"].tolist() == [
        [1, 1, 1, 1]
    ]


def test_elements_of_very_different_scales_raise_a_warning():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * [1, 0, 5e4]
    with pytest.warns(UserWarning, match=r"standard deviations from .* to .*columns=\{'x': \[...\]\}"):
        rk.dataset({"x": x})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rk.dataset({"x": x[:, :2]})  # a constant has no scale
        data = rk.dataset({"x": x}, columns={"x": ["a", "b", "c"]})
    assert data.signature["x"].columns[2].std > 1e4
