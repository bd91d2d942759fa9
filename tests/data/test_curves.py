"""Data set "curves": the images are of curves through the points that they come with."""

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.errors import PartArgumentError
from reprkit.testing import DatasetConformance


class TestCurves(DatasetConformance):
    part = "curves(count=40, size=12)"


def test_the_curve_passes_its_points_in_order():
    batch = rk.dataset("curves(count=50)").batch(range(50))
    x, points = batch["x"].squeeze(-1), batch["points"].view(50, 3, 2)
    assert x.shape == (50, 28, 28)
    cells = (points * 28).long()
    at_points = x[torch.arange(50)[:, None], cells[..., 1], cells[..., 0]]
    assert float(at_points.min()) > 0.5  # at most 0.7 pixels from the center of the cell
    assert 0.02 < float(x.mean()) < 0.2
    assert float(x.max()) <= 1


def test_ink_depends_on_the_distance_to_the_curve():
    """Against the distance to a curve of 10,000 points, computed by NumPy polynomials."""
    batch = rk.dataset("curves(count=3, size=16, pen=1.2, seed=4)").batch(range(3))
    t = np.linspace(0, 1, 10_000)
    y, x = np.mgrid[:16, :16] + 0.5
    for image, points in zip(batch["x"], batch["points"].view(3, 3, 2), strict=True):
        fitted = [np.polynomial.Polynomial.fit([0, 0.5, 1], each.double(), 2) for each in points.T]
        across, down = (16 * polynomial(t) for polynomial in fitted)
        distance = np.hypot(x[..., None] - across, y[..., None] - down).min(-1)
        np.testing.assert_allclose(image.squeeze(-1), np.exp(-((distance / 1.2) ** 2) / 2), atol=0.02)


def test_images_depend_on_the_seed_and_not_on_the_count():
    one, same, other = (
        rk.dataset(f"curves(count=5, seed={seed})").batch(range(5))["x"] for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    more = rk.dataset("curves(count=9)").batch(range(5))["x"]
    assert torch.equal(one, more)
    with pytest.raises(PartArgumentError, match="margin"):
        rk.dataset("curves(margin=0.5)")
