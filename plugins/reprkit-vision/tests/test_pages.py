"""Pages, their damage, and what reads and repairs them without training."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from reprkit_vision import ocr
from reprkit_vision.restoration import (
    adaptive_threshold,
    find_marks,
    inpaint,
    median_filter,
    non_local_means,
    otsu,
    psnr,
)
from reprkit_vision.views.page_damage import jpeg

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, DataError, ReprkitError
from reprkit.testing import CorruptionConformance
from reprkit.testing.kit import failed_checks, make_case

pytest.importorskip("matplotlib")
pytest.importorskip("skimage")


@pytest.mark.slow
class TestPageDamage(CorruptionConformance):
    part = "reprkit-vision/page-damage"


@pytest.mark.slow
def test_pages_pass_the_checks_and_are_split_by_family_and_text():
    assert failed_checks(make_case("dataset", "reprkit-vision/pages(count=30)", "images")) == {}
    crops = rk.dataset("pages(count=40)")
    whole = rk.dataset("pages(count=10, size=(96, 256), whole=True)")
    parts = [data.split(seed=1, valid=True) for data in (crops, whole)]
    families = [[set(part.batch(range(len(part)))["family"].tolist()) for part in each] for each in parts]
    assert families[0] == families[1]  # whatever the size and number
    train, valid, test = families[0]
    assert not train & test
    assert not valid & (train | test)
    words = [{part.raw(i) for i in range(len(part))} for part in parts[1]]
    assert all(len(text.split()) > 4 for each in words for text in each)
    assert not words[0] & words[2]


@pytest.mark.slow
def test_whole_pages_hold_their_text_within_margins_and_crops_fill_the_picture():
    whole = rk.dataset("pages(count=5, size=(96, 256), whole=True)").batch(range(5))["x"]
    assert float(torch.stack([whole[:, 0], whole[:, -1]]).min()) == 1
    crops = rk.dataset("pages(count=20)").batch(range(20))["x"]
    assert float(crops[:, :, 0].min()) < 0.5  # letters that are cut off
    assert 0.6 < float(crops.mean()) < 0.95


def test_a_folder_without_fonts_is_refused(tmp_path):
    with pytest.raises(DataError, match="0 families of fonts"):
        rk.dataset(f"pages(count=2, fonts={str(tmp_path)!r})")
    (tmp_path / "one.ttf").write_bytes(b"no font")
    with pytest.raises(DataError, match=r"one\.ttf cannot be read as a font"):
        rk.dataset(f"pages(count=2, fonts={str(tmp_path)!r})")


@pytest.mark.parametrize("quality", [10, 35, 80])
def test_jpeg_is_pillows(quality):
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(0, 9, (40, 48)), 1) + 128
    pixels = smooth.clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=quality)
    expected = np.asarray(Image.open(file)).astype(int)
    x = torch.from_numpy(pixels)[None, None].float() / 255
    found = (jpeg(x, torch.tensor([float(quality)])) * 255).round().int()[0, 0].numpy()
    # Pillow's transform is in whole numbers, so that now and then a coefficient is rounded to the other side.
    assert (abs(found - expected) <= 2).mean() > 0.93
    assert abs(found - expected).mean() < 0.6
    assert abs(found - pixels.astype(int)).max() > 2


def test_damage_grows_with_strength_and_keeps_the_order_of_gray():
    page = torch.ones(8, 64, 64, 1)
    page[:, 20:24, 8:56] = 0.0
    data = Signature({"x": Field(kind="image", shape=(64, 64, 1), range=(0.0, 1.0))})
    errors = []
    for strength in (0.0, 0.5, 1.0):
        damage = rk.create("corruption", f"page-damage(strength={strength})", data=data)
        given = damage({"x": page}, torch.Generator().manual_seed(0))[0]["x"]
        errors.append(float((given - page).square().mean()))
        assert (given[:, 21:23, 20:40].mean((1, 2, 3)) < given[:, 40:44, 20:40].mean((1, 2, 3))).all()
    assert errors[0] < 1e-3 < errors[1] < errors[2]
    with pytest.raises(BuildError, match="no range"):
        rk.create("corruption", "page-damage", data=Signature({"x": Field(kind="image", shape=(8, 8, 1))}))


def test_psnr_is_that_of_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio

    one, two = np.random.default_rng(0).random((2, 3, 8, 8, 3))
    expected = [peak_signal_noise_ratio(b, a, data_range=1.0) for a, b in zip(one, two, strict=True)]
    np.testing.assert_allclose(psnr(one, two), expected, rtol=1e-6)
    np.testing.assert_allclose(psnr(torch.from_numpy(one) + 2, two), psnr(np.ones_like(one), two))
    assert psnr(one, one).tolist() == [100.0] * 3


def test_a_mark_is_found_and_filled():
    """On a ramp, which biharmonic inpainting continues exactly, a stripe is found, and nothing is left of it."""
    ramp = np.broadcast_to(np.linspace(0.2, 0.8, 32, dtype=np.float32)[:, None, None], (32, 32, 3))[
        None
    ].copy()
    marked = ramp.copy()
    marked[0, 10:13, 8:20] = 1.0
    mask = find_marks(marked, 9, 0.15)
    assert mask[0, 10:13, 8:20].all()
    assert not mask[0, 20:].any()
    assert psnr(inpaint(marked, mask), ramp) > psnr(marked, ramp) + 20
    assert np.array_equal(inpaint(marked, np.ones_like(mask)), marked)
    spots = ramp.copy()
    spots[0, 5, 5] = 1.0
    assert abs(median_filter(spots, 3)[0, 5, 5] - ramp[0, 5, 5]).max() < 0.03


def test_thresholds_split_ink_from_paper():
    page = np.full((1, 32, 32, 1), 0.7, np.float32)
    page[0, 10:14, 4:28] = 0.3
    ink = page < 0.5
    assert np.array_equal(otsu(page) == 0, ink)
    shadow = page * np.linspace(1, 0.3, 32, dtype=np.float32)[None, None, :, None]
    assert not np.array_equal(otsu(shadow) == 0, ink)
    assert ((adaptive_threshold(shadow, 15, 0.05) == 0) == ink).mean() > 0.95
    noisy = page + np.random.default_rng(0).normal(0, 0.03, page.shape).astype(np.float32)
    assert psnr(non_local_means(noisy, 0.05), page) > psnr(noisy, page) + 2


def test_wrong_words_count_neither_case_nor_punctuation():
    assert ocr.wrong_words(["The cat, sat"], ["the cat sat."]) == 0
    # One substituted, one missing, one added, of five written.
    assert ocr.wrong_words(["the dog sat down", "b"], ["the cat sat", "a b"]) == pytest.approx(3 / 5)


def test_without_tesseract_its_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not ocr.has_tesseract()
    with pytest.raises(ReprkitError, match="apt-get install tesseract-ocr"):
        ocr.read_pages(np.ones((1, 8, 8, 1)))


@pytest.mark.slow
@pytest.mark.skipif(not ocr.has_tesseract(), reason="reads by tesseract")
def test_clean_pages_are_read():
    pages = rk.dataset("pages(count=3, size=(128, 320), whole=True)")
    texts = [pages.raw(number) for number in range(3)]
    assert ocr.wrong_words(ocr.read_pages(pages.batch(range(3))["x"].numpy()), texts) < 0.1
