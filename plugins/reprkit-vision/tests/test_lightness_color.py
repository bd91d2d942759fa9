"""Encoder lightness-color: the contract, what each of its two encoders reads, and what it refuses."""

import pytest
import torch

import reprkit as rk
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import EncoderConformance

SMALL = "lightness-color(lightness='conv(width=8, depth=2)', color='conv(width=4, depth=2)')"
PATCHES = "lightness-color(lightness='vit(patch=4, width=8, depth=1, heads=2)', color='vit(patch=4, width=4, depth=1, heads=1)')"


def images(low=0.0, high=1.0, channels=3):
    return Signature({"x": Field(kind="image", shape=(8, 8, channels), range=(low, high))})


@pytest.mark.slow
class TestLightnessColor(EncoderConformance):
    part = f"reprkit-vision/{SMALL}"
    data = images()


@pytest.mark.slow
class TestLightnessColorOfPatches(EncoderConformance):
    part = f"reprkit-vision/{PATCHES}"
    data = images()


def pictures(count=3):
    return torch.rand(count, 8, 8, 3, generator=torch.Generator().manual_seed(0))


def test_the_tokens_are_those_of_an_encoder_of_luma_and_one_of_color_differences():
    encoder = rk.create("encoder", SMALL, data=images())
    x = pictures()
    red, green, blue = x.unbind(-1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    one = encoder.lightness({"x": luma[..., None]}).x
    two = encoder.color({"x": torch.stack([blue - luma, red - luma], -1)}).x
    torch.testing.assert_close(encoder({"x": x}).x, torch.cat([one, two], -1))
    assert encoder.out_dim == 12
    assert encoder({"x": x}).grid == encoder.grid({"x": x}) == (2, 2)
    assert encoder.count({"x": x}) == 4


def test_colors_of_equal_lightness_change_the_tokens_of_color_only():
    encoder = rk.create("encoder", SMALL, data=images())
    x = 0.3 + 0.2 * pictures()
    other = x + 0.1 * torch.tensor([1.0, -0.299 / 0.587, 0.0])
    one, two = encoder({"x": x}).x, encoder({"x": other}).x
    torch.testing.assert_close(one[..., :8], two[..., :8], rtol=1e-4, atol=1e-5)
    assert (one[..., 8:] - two[..., 8:]).abs().max() > 1e-2


def test_gray_pictures_have_no_color():
    encoder = rk.create("encoder", SMALL, data=images())
    gray = pictures()[..., :1].expand(-1, -1, -1, 3)
    _, (_, color) = encoder._channels({"x": gray})
    torch.testing.assert_close(color, torch.zeros_like(color), rtol=0, atol=1e-6)


def test_a_picture_in_another_range_has_the_same_tokens():
    encoder = rk.create("encoder", SMALL, data=images())
    wide = rk.create("encoder", SMALL, data=images(-1.0, 1.0))
    wide.load_state_dict(encoder.state_dict())
    x = pictures()
    torch.testing.assert_close(wide({"x": 2 * x - 1}).x, encoder({"x": x}).x, rtol=1e-4, atol=1e-5)


def test_some_tokens_are_read_where_both_encoders_can():
    encoder = rk.create("encoder", PATCHES, data=images()).eval()
    assert encoder.provides == {"keep"}
    keep = torch.tensor([[0, 3], [1, 2], [2, 3]])
    some = encoder({"x": pictures()}, keep=keep)
    assert some.x.shape == (3, 2, 12)
    torch.testing.assert_close(some.positions, keep)
    mixed = rk.create("encoder", SMALL, data=images())
    assert mixed.provides == frozenset()
    with pytest.raises(BuildError, match="conv cannot read only some cells"):
        mixed({"x": pictures()}, keep=keep)


def test_pictures_of_any_size_are_read_where_both_encoders_can():
    encoder = rk.create(
        "encoder",
        "lightness-color(lightness='unet(width=4, depth=1)', color='unet(width=4, depth=1)')",
        data=images(),
    )
    assert encoder.provides == {"any_size"}
    x = torch.rand(2, 12, 16, 3, generator=torch.Generator().manual_seed(0))
    features = encoder({"x": x})
    assert features.grid == encoder.grid({"x": x}) == (12, 16)
    assert features.x.shape == (2, 12 * 16, 3)
    assert encoder.count({"x": x}) == 12 * 16


@pytest.mark.parametrize(
    ("part", "data", "kind", "message"),
    [
        (SMALL, images(channels=1), BuildError, r"color images \(h w 3\) with a range.*use conv"),
        (
            SMALL,
            Signature({"x": Field(kind="image", shape=(8, 8, 3))}),
            BuildError,
            "range None",
        ),
        (
            "lightness-color(lightness='conv(width=8, depth=2)', color='conv(width=4, depth=1)')",
            images(),
            BuildError,
            r"equal grids.*conv\(width=8, depth=2\).*\(2, 2\).*conv\(width=4, depth=1\).*\(4, 4\)",
        ),
        ("lightness-color(color='conv(width=0)')", images(), PartArgumentError, "width"),
    ],
)
def test_what_it_refuses(part, data, kind, message):
    with pytest.raises(kind, match=message):
        rk.create("encoder", part, data=data)


@pytest.mark.parametrize(
    "latent", ["continuous(dim=4)", "gaussian(dim=4)", "vq(codes=8, dim=4)", "one-hot(classes=4, groups=2)"]
)
@pytest.mark.parametrize("decoder", ["conv(width=8, depth=2)", "mlp(widths=(8,))"])
def test_both_encoders_learn_through_any_latent(latent, decoder):
    data = rk.data.Arrays({"x": pictures(6).numpy()}, ranges={"x": (0, 1)})
    model = rk.build(data=data, encoder=SMALL, latent=latent, decoder=decoder, seed=0)
    model(data.batch(range(6))).total.backward()
    encoder = model.factors["code"].encoder
    for part in (encoder.lightness, encoder.color):
        assert any(weight.grad.abs().max() > 0 for weight in part.parameters())


def test_a_saved_model_has_the_same_codes(tmp_path):
    data = rk.data.Arrays({"x": pictures(4).numpy()}, ranges={"x": (0, 1)})
    model = rk.build(
        data=data, encoder=SMALL, latent="continuous(dim=4)", decoder="conv(depth=2)", seed=0
    ).eval()
    model.save(tmp_path / "model")
    again = rk.load(tmp_path / "model").eval()
    batch = data.batch(range(4))
    torch.testing.assert_close(again.encode(batch).z, model.encode(batch).z, rtol=0, atol=0)
