"""Latents jpeg and webp, and the networks around them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from reprkit_compress.latents.map_layout import map_shape
from reprkit_compress.layers.dct_rate import dct_rate

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.errors import CompressionError, PartArgumentError
from reprkit.models.pictures import compress_picture, decompress_picture
from reprkit.types import Code, Features

COLOR = Signature({"x": Field(kind="image", shape=(32, 32, 3), range=(0.0, 1.0))})


def smooth(height, width, seed=0):
    """A picture of uint8 whose colors change slowly."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def features(picture):
    height, width = picture.shape[:2]
    x = torch.from_numpy(picture).float().reshape(1, height * width, -1) / 255
    return Features(x=x, grid=(height, width))


@pytest.mark.parametrize(("name", "format"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_the_code_is_the_picture_of_a_file_that_pillow_reads(name, format):
    latent = rk.create("latent", f"{name}(quality=60)").eval()
    picture = smooth(24, 17)
    code = latent(features(picture))
    (string,) = latent.write(code)
    with Image.open(io.BytesIO(string)) as opened:
        assert opened.format == format
        np.testing.assert_array_equal(np.asarray(opened), (code.z * 255).round().view(24, 17, 3).numpy())
    assert code.bits.tolist() == [8.0 * len(string)]
    again = latent.read([string], Code.of(code, z=torch.zeros_like(code.z)))
    assert torch.equal(again.z, code.z)
    assert latent.write(again) == [string]


def test_a_jpeg_code_is_what_pillow_writes():
    picture = smooth(16, 16)
    latent = rk.create("latent", "jpeg(quality=35, sampling='4:4:4')").eval()
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=35, optimize=True, subsampling="4:4:4")
    assert latent.write(latent(features(picture))) == [file.getvalue()]
    latent.quality = 90
    assert len(latent.write(latent(features(picture)))[0]) > len(file.getvalue())


def test_the_gradient_passes_straight_through_the_codec_and_the_rate_has_one():
    latent = rk.create("latent", "jpeg(quality=30, beta=2.0)").train()
    given = features(smooth(16, 16))
    x = (given.x * 1.4 - 0.2).requires_grad_()
    code = latent(Features(x=x, grid=given.grid))
    (gradient,) = torch.autograd.grad(code.z.sum(), x, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(x))
    assert latent.weights == {"rate": 2.0}
    torch.testing.assert_close(
        code.losses["rate"].double(), code.bits.double().mean() * np.log(2), rtol=1e-5, atol=0
    )
    (gradient,) = torch.autograd.grad(code.losses["rate"], x)
    assert gradient.abs().sum() > 0
    assert code.payload is None


def test_a_changed_code_is_not_written():
    latent = rk.create("latent", "jpeg").eval()
    code = latent(features(smooth(16, 16)))
    with pytest.raises(PartArgumentError, match="not what JPEG gives back"):
        latent.write(Code.of(code, z=code.z + 0.1, payload=code.payload))
    with pytest.raises(CompressionError, match="has 16 x 16 pixels, and its code 8 x 32"):
        latent.read(code.payload, Code(z=torch.zeros(1, 256, 3), grid=(8, 32)))
    with pytest.raises(CompressionError, match="cannot be decoded"):
        latent.read([b"no picture"], Code(z=torch.zeros(1, 256, 3), grid=(16, 16)))


def test_the_estimated_rate_follows_the_size_of_files():
    """Of pictures with growing detail, the estimate and JPEG's bytes without its tables rise together."""
    noise = np.random.default_rng(0).standard_normal((64, 64, 3))
    sizes, estimates = [], []
    for amount in (0, 4, 16, 64):
        picture = (smooth(64, 64) + amount * noise).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=50, optimize=True)
        sizes.append(file.tell())
        estimates.append(float(dct_rate(torch.from_numpy(picture)[None].float() / 255, 50)))
    assert sizes == sorted(sizes)
    assert estimates == sorted(estimates)
    assert np.corrcoef(sizes, estimates)[0, 1] > 0.97


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_networks_start_as_a_reduction_and_an_enlargement(scale):
    model = rk.build(
        data=COLOR,
        encoder=f"compact(scale={scale}, width=8, blocks=1)",
        latent="jpeg(quality=95, sampling='4:4:4')",
        decoder=f"restore(scale={scale}, width=8, blocks=1)",
        seed=0,
    )
    picture = smooth(33, 47)
    string = compress_picture(model, picture)
    back = decompress_picture(model, string)
    assert back.shape == (33, 47, 3)
    assert np.abs(back - picture / 255.0).mean() < 0.03
    assert string.count(b"\xff\xd8\xff") == 1  # one complete JPEG file


def test_a_model_with_a_codec_learns_and_is_loaded(tmp_path):
    torch.manual_seed(0)
    pictures = torch.stack([torch.from_numpy(smooth(32, 32, seed).copy()) for seed in range(8)]).float() / 255
    data = rk.data.Tensors({"x": pictures}, COLOR)
    parts = {
        "latent": "jpeg(quality=40)",
        "decoder": "restore(width=8, blocks=1)",
        "objective": "reconstruction",
    }
    model = rk.build(data=data, encoder="compact(width=8, blocks=1)", **parts, seed=0)
    with torch.no_grad():
        before = float(model(data.batch(range(8))).terms["reconstruction"])
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(20):
        losses = model(data.batch(range(8)))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        model.update()
    assert float(losses.terms["reconstruction"]) < before - 100
    model.save(tmp_path / "m")
    string = compress_picture(model.eval(), smooth(40, 24))
    np.testing.assert_allclose(
        decompress_picture(rk.load(tmp_path / "m"), string), decompress_picture(model, string), atol=1e-6
    )


def test_tokens_lie_on_their_grid_only_where_all_of_them_are_there():
    z = torch.zeros(1, 6, 3)
    assert map_shape(Features(x=z, grid=(2, 3))) == (2, 3)
    assert map_shape(Code(z=z, grid=(3, 3))) == (1, 6)
    assert map_shape(Code(z=z, grid=(6,))) == (1, 6)
    order = torch.tensor([[5, 0, 1, 2, 3, 4]])
    assert map_shape(Features(x=z, grid=(2, 3), positions=order, length=6)) == (1, 6)
