"""Encoder unet: the contract, where it starts, and pictures of other sizes."""

import pytest
import torch

import reprkit as rk
from reprkit.data import Arrays
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.testing import EncoderConformance

COLOR = Signature({"x": Field(kind="image", shape=(12, 8, 3), range=(0.0, 1.0))})


@pytest.mark.slow
class TestUNet(EncoderConformance):
    part = "reprkit-vision/unet(width=4)"


@pytest.mark.slow
class TestUNetOfColor(EncoderConformance):
    part = "reprkit-vision/unet(width=4, depth=1, blocks=2)"
    data = COLOR


def pictures(count, height, width):
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(0)).numpy()


def small_model(**parts):
    data = Arrays({"x": pictures(4, 12, 10)}, ranges={"x": (0, 1)})
    parts = {"encoder": "unet(width=4, depth=1)", "latent": "continuous(dim=3)", "decoder": "flat"} | parts
    return rk.build(data=data, **parts, seed=0)


def test_a_new_model_starts_near_the_given_picture():
    x = pictures(4, 12, 10)
    again = small_model().reconstruct({"x": torch.from_numpy(x)}, "numpy")
    assert 0 < abs(again - x).max() < 0.03


def test_the_correction_is_added_pixel_by_pixel():
    """The output layer's bias is the correction of each of 2 x 2 pixels and each channel."""
    encoder = rk.create("encoder", "unet(width=4, depth=1)", data=COLOR)
    torch.nn.init.zeros_(encoder.last.weight)
    encoder.last.bias.data = torch.arange(12.0)
    x = torch.rand(2, 12, 8, 3)
    features = encoder({"x": x})
    added = features.x.unflatten(1, features.grid) - (2 * x - 1)
    for row in range(2):
        for column in range(2):
            expected = (4 * torch.arange(3.0) + 2 * row + column).expand(2, 6, 4, 3)
            torch.testing.assert_close(added[:, row::2, column::2], expected)


def test_a_saved_model_repairs_larger_pictures_alike(tmp_path):
    """The inside of a crop, out of the border's reach, is what the whole picture gives."""
    model = small_model(encoder="unet(width=4, depth=1, blocks=1)")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    model.save(tmp_path / "model")
    whole = pictures(1, 64, 60)
    sizes = {}
    for name, crop in {"whole": whole, "crop": whole[:, :48, :48]}.items():
        loaded = rk.load(tmp_path / "model", data=Arrays({"x": crop}, ranges={"x": (0, 1)}).signature)
        sizes[name] = loaded.reconstruct({"x": torch.from_numpy(crop)}, "numpy")
    assert sizes["whole"].shape == (1, 64, 60, 3)
    assert abs(sizes["whole"][:, :16, :16] - sizes["crop"][:, :16, :16]).max() < 1e-5


def test_symbols_are_refused():
    data = Signature({"x": Field(kind="map", shape=(8, 8), vocab=4)})
    with pytest.raises(BuildError, match="map of symbols"):
        rk.create("encoder", "unet", data=data)
