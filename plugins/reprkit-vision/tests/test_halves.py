"""Colors as classes, pictures divided in two, and tuxpaint's stamps as classes."""

import numpy as np
import pytest
from PIL import Image
from reprkit_vision.data.stamps import Stamps
from reprkit_vision.halves import divide, group_names
from reprkit_vision.lab import color_bins, nearest_bins, pool, to_lab, to_rgb
from reprkit_vision.marks import stamps_folder

import reprkit as rk
from reprkit.data import Arrays
from reprkit.errors import DataError

PRIMARIES = np.array([(1, 1, 1), (0, 0, 0), (1, 0, 0), (0, 0, 1)], np.float32)


def pictures(values):
    """Pictures of one color each (n 4 8 c), with a label."""
    x = np.tile(np.array(values, np.float32)[:, None, None, :], (1, 4, 8, 1))
    return Arrays({"x": x, "label": np.arange(len(values))})


def test_lab_is_that_of_the_primaries():
    """Values of red and blue: Lindbloom's tables for sRGB and D65."""
    lab = to_lab(PRIMARIES[:, None, None])[:, 0, 0]
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(lab, expected, atol=0.05)
    np.testing.assert_allclose(to_rgb(lab[:, None, None])[:, 0, 0], PRIMARIES, atol=1e-3)


def test_bins_hold_every_color():
    bins = color_bins()
    assert len(bins) == 261
    colors = np.random.default_rng(0).random((1, 40, 50, 3), np.float32)
    ab = to_lab(colors)[..., 1:]
    assert abs(bins[nearest_bins(ab)] - ab).max() <= 5 + 1e-3
    assert (nearest_bins(bins[None, None]) == np.arange(261)).all()


def test_squares_are_averaged():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    assert pool(x, 2)[0, ..., 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_color_pictures_are_divided_into_lightness_and_color():
    divided = divide(pictures(PRIMARIES), side=4)
    batch = divided.batch(range(4))
    np.testing.assert_allclose(100 * batch["lightness"][:, 0, 0, 0], [100, 0, 53.24, 32.30], atol=0.02)
    np.testing.assert_allclose(128 * batch["color"][2, 0, 0], [80.09, 67.20], atol=0.05)
    np.testing.assert_allclose(batch["both"][2, 0, 0], [0.0648, 0.6257, 0.525], atol=1e-3)
    assert batch["lightness_classes"][:, 0].tolist() == [[99, 99], [0, 0], [53, 53], [32, 32]]
    assert color_bins()[batch["color_classes"][:, 0, 1]].tolist() == [[0, 0], [0, 0], [80, 70], [80, -110]]
    assert batch["label"].tolist() == [0, 1, 2, 3]
    assert group_names(divided) == ("lightness", "color")
    assert divided.signature["color"].range == (-1.0, 1.0)


def test_gray_pictures_are_divided_into_left_and_right():
    digits = rk.dataset("digits")
    divided = divide(digits, side=2)
    x, batch = digits.batch(range(9))["x"], divided.batch(range(9))
    assert (batch["left"] == x[:, :, :4]).all()
    assert (batch["right"] == x[:, :, 4:]).all()
    means = x[:, 2:4, 6:8].mean((1, 2, 3))
    assert (batch["right_classes"][:, 1, 1] == (16 * means).long().clamp(max=15)).all()
    assert group_names(divided) == ("left", "right")


def test_other_data_is_refused():
    with pytest.raises(DataError, match="side=3 does not divide parts of 4 x 8"):
        divide(pictures(PRIMARIES), side=3)
    with pytest.raises(DataError, match="images of one or three channels"):
        divide(Arrays({"x": np.zeros((2, 5), np.float32)}))


def draw(name, size, color):
    stamps_folder().mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGBA", (40, 40))
    picture.paste((*color, 255), (4, 4, 4 + size[0], 4 + size[1]))
    picture.save(stamps_folder() / name)


def test_stamps_have_the_classes_of_their_folders():
    with pytest.raises(DataError, match="reprkit vision fetch stamps"):
        Stamps()
    for number in range(6):
        draw(f"animals-frog{number}.png", (20, 10), (255, 0, 0))
        draw(f"food-fruit-apple{'abcdef'[number]}.png", (10, 20), (0, 0, 255))
    draw("town-house.png", (10, 10), (0, 0, 0))
    data = Stamps(16, least=2, background=0.0)
    assert data.signature["label"].classes == ("animals", "food")
    batch = data.batch(range(12))
    assert batch["label"].tolist() == [0] * 6 + [1] * 6
    frog = batch["x"][0]
    assert frog[8, 8].tolist() == [1, 0, 0]
    assert (frog[:, 1:15].sum(-1) > 0.5).any(1).sum() in (8, 9)  # twice as wide as high
    assert (frog[0] == 0).all()
    train, test = data.split(seed=0)
    for part in (train, test):
        frogs = int((part.batch(range(len(part)))["label"] == 0).sum())
        assert frogs in (0, 6)  # of one name, in one part
    with pytest.raises(DataError, match="0 classes have 7 stamps"):
        Stamps(least=7)
