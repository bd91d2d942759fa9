"""Data set "shapes": images against their factors, combinations, splits by combination."""

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.data.formats.shapes import SHAPES, draw_shapes
from reprkit.errors import PartArgumentError
from reprkit.testing import DatasetConformance

SMALL = "shapes(size=16, scales=2, orientations=3, positions=4)"


class TestShapes(DatasetConformance):
    part = "shapes(size=8, scales=2, orientations=2, positions=2)"


def draw(name, scale=1.0, degrees=0.0, center=(0.5, 0.5), size=64):
    number = torch.tensor([SHAPES.index(name)])
    rest = (torch.tensor([value]) for value in (scale, degrees))
    return draw_shapes(number, *rest, torch.tensor([center]), size)[0, ..., 0].double().numpy()


def inside(name, x, y):
    """Whether points are in the shape of radius 1, written by half-planes and disks."""
    if name == "square":
        return np.maximum(abs(x), abs(y)) <= np.sqrt(0.5)
    if name == "ellipse":
        return x**2 + (2 * y) ** 2 <= 1
    y = y - 0.2
    body = abs(x + y) + abs(x - y) <= 2 * 0.55 * np.sqrt(2) + 1e-12
    body &= np.maximum(abs(x + y), abs(x - y)) <= 0.55 * np.sqrt(2)
    middle = 0.55 / np.sqrt(2)
    return body | (np.hypot(abs(x) - middle, y + middle) <= 0.55)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("scale", "degrees"), [(1.0, 0.0), (0.7, 30.0)])
def test_pixels_are_the_share_that_the_shape_covers(name, scale, degrees):
    """Against 16 x 16 points in each pixel."""
    size, fine = 48, 48 * 16
    rows, columns = (np.mgrid[:fine, :fine] + 0.5) / fine
    across, down = (columns - 0.4) / (0.2 * scale), (rows - 0.6) / (0.2 * scale)
    angle = np.deg2rad(degrees)
    x, y = across * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - across * np.sin(angle)
    expected = inside(name, x, y).reshape(size, 16, size, 16).mean((1, 3))
    found = draw(name, scale, degrees, (0.4, 0.6), size)
    assert abs(found - expected).max() < 0.3  # at corners
    assert abs(found - expected).mean() < 0.002
    assert found.sum() == pytest.approx(expected.sum(), rel=0.03)


def test_factors_mean_what_they_say():
    plain = draw("heart")
    moved = draw("heart", center=(0.5 + 5 / 64, 0.5 - 3 / 64))
    np.testing.assert_allclose(moved, np.roll(plain, (-3, 5), (0, 1)), atol=1e-5)
    np.testing.assert_allclose(draw("heart", degrees=90), np.rot90(plain, -1), atol=1e-4)  # clockwise
    assert draw("heart", scale=0.5).sum() == pytest.approx(plain.sum() / 4, rel=0.02)
    np.testing.assert_allclose(draw("square", degrees=90), draw("square"), atol=1e-4)
    assert abs(draw("ellipse", degrees=90) - draw("ellipse")).max() > 0.9


def test_every_combination_is_once_and_another_image():
    data = rk.dataset(SMALL)
    batch = data.batch(range(len(data)))
    names = data.signature.label_fields()
    assert list(names) == ["shape", "scale", "orientation", "position_x", "position_y"]
    rows = torch.stack([batch[name] for name in names], 1)
    assert len(data) == 3 * 2 * 3 * 4 * 4 == len(rows.unique(dim=0))
    assert [data.signature[name].vocab for name in names] == [3, 2, 3, 4, 4]
    assert data.signature["shape"].classes == SHAPES
    images = (batch["x"].flatten(1) * 255).round().int()
    assert len(images.unique(dim=0)) == len(data)
    for name in names:
        assert torch.equal(data.label_values(name), batch[name])
    # The first differs from the last of the fastest factor by the row alone.
    centers = [(x * torch.arange(16)[:, None, None]).sum() / x.sum() for x in batch["x"][[0, 3]]]
    assert centers[1] - centers[0] == pytest.approx(0.56 * 16, abs=0.2)


def test_a_whole_turn_repeats_squares():
    data = rk.dataset("shapes(size=16, scales=2, orientations=4, positions=2, turn=360)")
    squares = data.batch(range(2 * 4 * 2 * 2))["x"].view(2, 4, 2, 2, -1)
    torch.testing.assert_close(squares[:, 1], squares[:, 0], atol=1e-4, rtol=0)


def test_combinations_keep_their_part_in_other_versions():
    small = rk.dataset("shapes(size=16, scales=2, orientations=2, positions=3)")
    more = rk.dataset("shapes(size=24, scales=2, orientations=4, positions=3)")
    assert set(small.identities()) < set(more.identities())
    assert len(set(more.identities())) == len(more)
    parts = []
    for data in (small, more):
        names = data.identities()
        parts.append({names[index] for index in data.split(seed=3)[1].indices})
    assert parts[0] == parts[1] & set(small.identities())
    assert parts[0]


def test_arguments_out_of_range():
    for wrong in ("size=4", "positions=1", "turn=0"):
        with pytest.raises(PartArgumentError, match=wrong.partition("=")[0]):
            rk.dataset(f"shapes({wrong})")
