import gzip
import struct

import numpy as np
import pytest
import torch
from idx_files import CODES, idx_bytes, write_fashion
from reprkit_vision.data.idx import read_idx

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError
from reprkit.testing.kit import failed_checks, make_case


@pytest.mark.parametrize("kind", CODES)
def test_arrays_of_every_type_are_read(tmp_path, kind):
    array = (np.arange(24) * 5 - 60 * (kind != "u1")).astype(kind).reshape(2, 3, 4)
    for name, content in (("plain", idx_bytes(array)), ("packed", gzip.compress(idx_bytes(array)))):
        (tmp_path / name).write_bytes(content)
        found = read_idx(tmp_path / name)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_damaged_missing_and_other_files_are_refused(tmp_path):
    whole = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    packed = gzip.compress(whole)
    huge = whole[:4] + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1) + whole[16:]
    for content, message in (
        (b"", "begins with nothing"),
        (b"PNG!", "is not an idx file: it begins with 50 4e"),
        (bytes([0, 0, 7, 1]) + whole[4:], "is not an idx file"),
        (whole[:9], "cut off in its header"),
        (whole[:-1], "is cut off: its header says .* 24 bytes, and it has 23"),
        (huge, "is cut off"),
        (whole + b"1", "is too long"),
        (packed[:-12], "cannot be read"),
        (packed[:20] + b"1234" + packed[24:], "cannot be read"),
    ):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_idx(tmp_path / "file")
    with pytest.raises(DataError, match="no file .*nothing"):
        read_idx(tmp_path / "nothing")


def idx(folder, **arguments):
    """A reference to data set idx with these files."""
    listed = [
        f"{name}={(str(folder / value) if isinstance(value, str) else value)!r}"
        for name, value in arguments.items()
    ]
    return f"reprkit-vision/idx({', '.join(listed)})"


@pytest.fixture
def files(tmp_path):
    """Color images (20 6 5 3) and labels, gray images (8 6 5) of another part: the folder and the arrays."""
    generator = np.random.default_rng(1)
    arrays = {
        "color": generator.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8),
        "gray": generator.integers(0, 256, (20, 6, 5), dtype=np.uint8),
        "gray_test": generator.integers(0, 256, (8, 6, 5), dtype=np.uint8),
        "labels": np.arange(20, dtype=np.int32) % 3,
        "labels_test": np.arange(8, dtype=np.uint8) % 3,
        "values": generator.normal(size=(20, 6, 5)).astype("f4"),
    }
    for name, array in arrays.items():
        (tmp_path / name).write_bytes(idx_bytes(array))
    return tmp_path, arrays


def test_own_files_are_split_at_random_or_by_file(files):
    folder, arrays = files
    data = rk.dataset(idx(folder, images="color"))
    assert list(data.signature) == ["x"]
    assert torch.equal(data.batch(range(20))["x"], torch.from_numpy(arrays["color"]).float() / 255)
    assert [len(part) for part in data.split(valid=True)] == [14, 2, 4]

    both = idx(folder, images="gray", labels="labels", test_images="gray_test", test_labels="labels_test",
               classes=("a", "b", "c"))  # fmt: skip
    assert failed_checks(make_case("dataset", both, "images")) == {}
    data = rk.dataset(both)
    assert data.signature["label"].classes == ("a", "b", "c")
    train, test = data.split(seed=3)
    assert torch.equal(test.batch(range(8))["x"][..., 0], torch.from_numpy(arrays["gray_test"]).float() / 255)
    assert train.batch(range(20))["label"].tolist() == arrays["labels"].tolist()
    with pytest.raises(DataError, match="official test part"):
        data.split(test_share=0.1)


def test_files_that_do_not_fit_each_other_are_refused(files):
    folder, _ = files
    for arguments, message in (
        ({"images": "values"}, "float32 values of shape .*; images are uint8"),
        ({"images": "gray", "labels": "values"}, "labels are integers"),
        ({"images": "gray", "labels": "labels_test"}, "has 20 images, and .* 8 labels"),
        ({"images": "color", "test_images": "gray_test"}, "differ in size"),
        ({"images": "gray", "labels": "labels", "classes": ("a", "b")}, "label 2 has no name: 2 classes"),
    ):
        with pytest.raises(DataError, match=message):
            rk.dataset(idx(folder, **arguments))
    for arguments, message in (
        ({"images": "gray", "test_labels": "labels_test"}, "needs test_images"),
        ({"images": "gray", "labels": "labels", "test_images": "gray_test"}, "labels of both parts"),
        ({"images": "gray", "classes": ("a",)}, "classes= are the names of labels"),
    ):
        with pytest.raises(PartArgumentError, match=message):
            rk.dataset(idx(folder, **arguments))


def test_fashion_has_the_official_parts_and_classes(tmp_path):
    pixels, labels = write_fashion(tmp_path / "fashion")
    reference = f"reprkit-vision/fashion(root={str(tmp_path / 'fashion')!r})"
    assert failed_checks(make_case("dataset", reference, "images")) == {}
    data = rk.dataset(reference)
    assert data.name == "fashion"
    assert data.signature["label"].vocab == len(data.signature["label"].classes) == 10
    assert data.signature["label"].classes[9] == "ankle boot"
    train, valid, test = data.split(seed=1, valid=True)
    assert (len(train), len(valid), len(test)) == (27, 3, 20)
    assert torch.equal(test.batch(range(20))["x"][..., 0], torch.from_numpy(pixels[30:]).float() / 255)
    assert test.batch(range(20))["label"].tolist() == labels[30:].tolist()
    for path in (tmp_path / "fashion").iterdir():  # also unpacked
        (path.with_suffix("")).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert torch.equal(rk.dataset(reference)[49]["x"], data[49]["x"])
    (tmp_path / "fashion" / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(
        DataError, match=r"t10k-images-idx3-ubyte.gz is not in .*\n.*reprkit vision fetch fashion"
    ):
        rk.dataset(reference)
