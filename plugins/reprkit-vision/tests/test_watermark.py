"""Watermarks: how marks are blended, and that parts share none."""

import numpy as np
import pytest
import torch
from PIL import Image
from reprkit_vision.data.letters import FONTS
from reprkit_vision.marks import fonts_of, make_marks

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, DataError
from reprkit.testing import CorruptionConformance

pytest.importorskip("matplotlib")
COLOR = Signature({"x": Field(kind="image", shape=(40, 36, 3), range=(0.0, 1.0))})
GRAY = Signature({"x": Field(kind="image", shape=(40, 36, 1), range=(-1.0, 1.0))})


@pytest.mark.slow
class TestWatermark(CorruptionConformance):
    part = "reprkit-vision/watermark(most=1, size=(4, 8))"


@pytest.mark.slow
class TestWatermarkOfColor(CorruptionConformance):
    part = "reprkit-vision/watermark(part='test')"
    data = COLOR


def blended(x, data=COLOR, **arguments):
    settings = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    corruption = rk.create("corruption", f"watermark(p=1.0, {settings})", data=data)
    return corruption({"x": x}, torch.Generator().manual_seed(3))[0]["x"]


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(16, 40, 36, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
def test_a_mark_of_half_the_opacity_goes_half_the_way(pictures):
    full = blended(pictures, opacity=(1.0, 1.0), most=1)
    half = blended(pictures, opacity=(0.5, 0.5), most=1)
    changed = (full - pictures).abs().amax(-1) > 0
    assert 0.02 < float(changed.float().mean()) < 0.6
    torch.testing.assert_close(half, pictures + 0.5 * (full - pictures), atol=1e-5, rtol=0)
    # Inside a mark of full opacity nothing is left of the picture below it.
    other = blended(1 - pictures, opacity=(1.0, 1.0), most=1)
    assert float(((full - other).abs().amax(-1) < 1e-5).float().mean()) > 0.02


@pytest.mark.slow
def test_gray_pictures_and_other_ranges_get_the_same_marks(pictures):
    gray = pictures.mean(-1, keepdim=True)
    color = blended(gray.expand(-1, -1, -1, 3), opacity=(0.6, 0.6))
    signed = blended(gray * 2 - 1, GRAY, opacity=(0.6, 0.6))
    torch.testing.assert_close(signed / 2 + 0.5, color.mean(-1, keepdim=True), atol=1e-5, rtol=0)


@pytest.mark.slow
def test_parts_share_no_mark():
    parts = {part: make_marks("drawn", part, 0)[0] for part in ("all", "train", "valid", "test")}
    keys = {part: {mark.tobytes() for mark in marks} for part, marks in parts.items()}
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["valid"]
    assert keys["all"] == keys["train"] | keys["valid"] | keys["test"]
    assert len(keys["train"]) > 3 * len(keys["test"]) > 100


def test_groups_of_words_share_no_font():
    for seed in range(5):
        fonts = [font for tenth in range(10) for font in fonts_of(tenth, seed)]
        assert sorted(fonts) == sorted(FONTS)


def test_a_folder_of_stamps_is_split_by_name(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abcdefghij":
        for number in (1, 2):
            pixels = rng.integers(0, 256, (20, 30, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{name * 3}_{number}.png")
    counts = {part: sum(~make_marks(str(tmp_path), part, 0)[1]) for part in ("train", "valid", "test")}
    assert counts == {"train": 14, "valid": 2, "test": 4}


def test_bad_stamps_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))  # where nothing is fetched
    with pytest.raises(DataError, match="holds no pictures with transparency"):
        make_marks(str(tmp_path), "train", 0)
    with pytest.raises(DataError, match="reprkit vision fetch stamps"):
        make_marks("fetched", "train", 0)
    (tmp_path / "one.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="one.png cannot be read as an image"):
        make_marks(str(tmp_path), "all", 0)
    Image.new("RGBA", (8, 8)).save(tmp_path / "one.png")
    with pytest.raises(DataError, match="transparent everywhere"):
        make_marks(str(tmp_path), "all", 0)
    with pytest.raises(DataError, match="too few for each part"):
        make_marks(str(tmp_path), "test", 0)
    with pytest.raises(BuildError, match="no range"):
        rk.create("corruption", "watermark", data=Signature({"x": Field(kind="image", shape=(8, 8, 3))}))
