"""Evaluator rate-distortion against numbers computed directly."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from reprkit_compress.evaluators.curves import Point, codec_points, psnr_at
from reprkit_compress.evaluators.quality import ms_ssim, psnr
from reprkit_compress.evaluators.rate_distortion import measured_rates
from reprkit_compress.rates import at_rate

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.models.pictures import compress_picture, decompress_picture


def pictures(count, side):
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    return [
        np.asarray(Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC))
        + random.integers(0, 6, (side, side, 3), dtype=np.uint8)
        for each in coarse
    ]


def build(side, latent="jpeg(quality=60)"):
    data = Signature({"x": Field(kind="image", shape=(side, side, 3), range=(0.0, 1.0))})
    return rk.build(
        data=data, encoder="compact(scale=1, width=8, blocks=0)", latent=latent, decoder="restore(scale=1, width=8, blocks=0)",
        seed=0,
    )  # fmt: skip


def test_the_metrics_are_those_of_the_bytes_and_the_rounded_picture():
    shown = pictures(2, 24)
    model = build(24)
    data = rk.data.Tensors({"x": torch.from_numpy(np.stack(shown)).float() / 255}, model.signature)
    evaluator = "rate-distortion(qualities=(10, 50, 90), codecs=('jpeg', 'webp'), examples=1)"
    found = rk.evaluate(model, data, evaluator, examples=0)["rate-distortion"]
    strings = [compress_picture(model, each) for each in shown]
    assert found["bpp"] == pytest.approx(np.mean([8 * len(each) / 24**2 for each in strings]))
    decoded = [np.round(decompress_picture(model, each) * 255) for each in strings]
    errors = [np.mean((back - each) ** 2) for back, each in zip(decoded, shown, strict=True)]
    assert found["psnr"] == pytest.approx(np.mean([10 * np.log10(255**2 / error) for error in errors]))
    assert 0 < found["bpp"] - found["payload_bpp"] <= 8 * 30 / 24**2
    assert found["n"] == 2
    assert "ms_ssim" not in found  # too small
    assert -3 < found["jpeg_gain_db"] < 0.5  # the model is JPEG itself, and has a header


@pytest.mark.slow
def test_several_rates_and_similarity_of_larger_pictures():
    shown = pictures(1, 192)
    model = build(192)
    evaluator = rk.create(
        "evaluator",
        "rate-distortion(qualities=(10, 50, 90), codecs=('jpeg',), rates=(20.0, 70.0), examples=0)",
    )
    found = evaluator.measure(model, shown)
    assert found["bpp@20"] < found["bpp@70"]
    assert found["psnr@20"] < found["psnr@70"]
    assert 0.5 < found["ms_ssim@20"] < found["ms_ssim@70"] <= 1
    assert found["jpeg_gain_db"] == min(found["jpeg_gain_db@20"], found["jpeg_gain_db@70"])
    assert model.latent().quality == 60
    lines = found["figures"]["curve"].lines
    assert len(lines["model"][0]) == 2
    assert len(lines["jpeg"][0]) > 5


def test_curves_keep_the_best_options_and_are_interpolated_in_log_bytes():
    (picture,) = pictures(1, 32)
    points = codec_points(picture, "jpeg", (10, 40, 80))
    sizes, values = [p.bytes for p in points], [p.psnr for p in points]
    assert sizes == sorted(set(sizes))
    assert values == sorted(values)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=40, optimize=True, subsampling="4:2:0")
    assert psnr_at(points, file.tell()) >= psnr(np.asarray(Image.open(file)), picture) - 1e-9
    line = [Point(100, 100, 30.0, None), Point(400, 400, 36.0, None)]
    assert psnr_at(line, 200) == pytest.approx(33.0)
    assert psnr_at(line, 99) is None
    assert psnr_at(line, 401) is None


def test_a_table_of_rates_says_where_pictures_were_left_out():
    found = {
        "bpp@1": 0.4,
        "jpeg_gain_db@1": 2.0,
        "jpeg_compared@1": 0.5,
        "webp_gain_db@1": 1.0,
        "webp_compared@1": 1.0,
    }
    head, row = (line.split() for line in measured_rates(found).splitlines())
    assert dict(zip(head, row, strict=True)) == {
        "rate": "1", "bpp": "0.400", "jpeg_gain_db": "2.000", "webp_gain_db": "1.000", "jpeg_compared": "0.500",
    }  # fmt: skip


def test_quality_of_known_pictures():
    zeros, ones = np.zeros((200, 180, 3), np.uint8), np.ones((200, 180, 3), np.uint8)
    assert psnr(ones, zeros) == pytest.approx(20 * np.log10(255))
    assert psnr(ones, ones) == 100.0
    assert ms_ssim(zeros[:100], zeros[:100]) is None


def test_what_does_not_fit_is_refused():
    with pytest.raises(PartArgumentError, match="no codec 'png'"):
        rk.create("evaluator", "rate-distortion(codecs=('png',))")
    with pytest.raises(PartArgumentError, match="at least two qualities"):
        rk.create("evaluator", "rate-distortion(qualities=(50,))")
    vectors = rk.dataset("digits")
    model = rk.build(
        data=vectors, encoder="mlp(width=8)", latent="vq(codes=4, dim=3)", decoder="mlp(width=8)"
    )
    with pytest.raises(BuildError, match="rates= is for latents"), at_rate(model, 0.5):
        pass
