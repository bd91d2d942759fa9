"""Pictures of any size as bytes: tiles, whole pictures, damage, other models."""

import warnings

import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image
from torch import nn

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.decoders.head import Head
from reprkit.errors import BuildError, CompressionError, DataError, PartArgumentError
from reprkit.models.code_header import PICTURE_VERSION, close_string
from reprkit.models.fingerprints import fingerprint
from reprkit.models.pictures import compress_picture, decompress_picture, payload_size
from reprkit.testing.sample_data import VECTORS
from reprkit.types import Features
from reprkit.utils.varints import encode_varint

COLOR = Signature({"x": Field(kind="image", shape=(8, 8, 3), range=(0.0, 1.0))})


class Cells(rk.Encoder):
    """Cells of 4 x 4 pixels; each sees its neighbors."""

    provides = frozenset({"any_size"})

    def __init__(self, data=None):
        super().__init__()
        self.out_dim = 6
        self.layers = nn.Conv2d(3, 6, 8, stride=4, padding=2)

    def forward(self, batch, *, keep=None):
        cells = self.layers(batch["x"].movedim(-1, 1))
        return Features(x=rearrange(cells, "b d h w -> b (h w) d"), grid=tuple(cells.shape[2:]))

    def count(self, batch):
        return self.grid(batch)[0] * self.grid(batch)[1]

    def grid(self, batch):
        return batch["x"].shape[1] // 4, batch["x"].shape[2] // 4


class Pixels(rk.Decoder):
    provides = frozenset({"any_size"})

    def __init__(self, data=None, tokens=None):
        super().__init__()
        self.in_dim = 6
        self.layers = nn.ConvTranspose2d(6, 5, 8, stride=4, padding=2)
        self.head = Head(5, 3, field=COLOR["x"])

    def forward(self, features, *, teacher=None, length=None):
        pixels = self.layers(rearrange(features.x, "b (h w) d -> b d h w", h=features.grid[0]))
        return self.head(rearrange(pixels, "b d h w -> b (h w) d"), grid=tuple(pixels.shape[2:]))


@pytest.fixture(scope="module")
def whole():
    return rk.build(
        data=COLOR, encoder=Cells(), latent="fsq(levels=(8, 8, 5))", decoder=Pixels(), seed=0
    ).eval()


@pytest.fixture(scope="module")
def tiled():
    return rk.build(
        data=COLOR, encoder="mlp(width=16)", latent="vq(codes=16, dim=4)", decoder="mlp(width=16)", seed=0
    )


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 8), (21, 13), (16, 40)])
@pytest.mark.parametrize("name", ["whole", "tiled"])
def test_a_picture_comes_back_in_its_own_size(name, size, request):
    model = request.getfixturevalue(name)
    string = compress_picture(model, picture(*size))
    back = decompress_picture(model, string)
    assert back.shape == (*size, 3)
    assert back.min() >= 0
    assert back.max() <= 1
    assert 0 < payload_size(model, string) < len(string)


@torch.no_grad()
def test_a_whole_picture_is_encoded_as_the_model_encodes_it_padded(whole):
    values = picture(9, 14)
    padded = np.pad(values, ((0, 3), (0, 2), (0, 0)), mode="edge")
    codes = whole.encode({"x": torch.from_numpy(padded).float()[None] / 255}, any_length=True)
    assert codes["code"].grid == (3, 4)
    expected = whole.decode(codes).x.view(12, 16, 3)[:9, :14].clamp(0, 1)
    back = decompress_picture(whole, compress_picture(whole, values))
    np.testing.assert_array_equal(back, expected.numpy())


@torch.no_grad()
def test_tiles_are_encoded_as_examples(tiled):
    values = picture(16, 9)
    padded = np.pad(values, ((0, 0), (0, 7), (0, 0)), mode="edge")
    tiles = rearrange(torch.from_numpy(padded).float() / 255, "(r h) (s w) c -> (r s) h w c", h=8, w=8)
    direct = tiled.eval().reconstruct({"x": tiles}, "numpy")
    expected = rearrange(direct, "(r s) h w c -> (r h) (s w) c", r=2)[:, :9]
    np.testing.assert_allclose(
        decompress_picture(tiled, compress_picture(tiled, values)), expected.clip(0, 1), atol=1e-6
    )


@torch.no_grad()
def test_fewer_slots_are_a_lower_rate():
    latent = "residual-vq(codes=256, dim=4, layers=3, kmeans=False)"
    model = rk.build(
        data=COLOR, encoder="mlp(width=16)", latent=latent, decoder="mlp(width=16)", seed=0
    ).eval()
    values, sizes = picture(8, 8), []
    for slots in (1, 2, 3):
        string = compress_picture(model, values, slots=slots)
        codes = model.encode({"x": torch.from_numpy(values).float()[None] / 255})
        read = model.decode(model.from_indices({"code": codes.indices[..., :slots]}, like=codes))
        expected = read.x.view(8, 8, 3).clamp(0, 1).numpy()
        np.testing.assert_allclose(decompress_picture(model, string), expected, atol=1e-6)
        sizes.append(payload_size(model, compress_picture(model, picture(32, 32), slots=slots)))
    assert sizes == sorted(set(sizes))
    assert string == compress_picture(model, values)
    with pytest.raises(PartArgumentError, match="3 slots"):
        compress_picture(model, values, slots=4)


def test_an_array_of_pillow_which_is_not_writable_is_read_without_a_warning(whole):
    picture = np.asarray(Image.fromarray(np.full((8, 12, 3), 7, np.uint8)))
    assert not picture.flags.writeable
    torch.set_warn_always(True)  # torch warns of such arrays once in a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            string = compress_picture(whole, picture)
    finally:
        torch.set_warn_always(False)
    assert string == compress_picture(whole, picture.copy())


def test_files_pictures_and_arrays_are_read_alike(whole, tmp_path):
    values = picture(11, 6)
    Image.fromarray(values).save(tmp_path / "p.png")
    strings = {
        compress_picture(whole, each) for each in (values, Image.fromarray(values), tmp_path / "p.png")
    }
    assert len(strings) == 1


def test_gray_transparent_and_deep_pictures_are_read_as_the_image_data_set_reads_them(whole, tmp_path):
    gray = picture(9, 9)[..., 0]
    clear = np.dstack([picture(9, 9), np.zeros((9, 9), np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    as_color = compress_picture(whole, np.dstack([gray] * 3))
    assert compress_picture(whole, Image.fromarray(gray)) == as_color
    assert compress_picture(whole, tmp_path / "deep.png") == as_color
    assert compress_picture(whole, tmp_path / "clear.png") == compress_picture(
        whole, np.full((9, 9, 3), 255, np.uint8)
    )


def test_what_is_no_picture_is_refused(whole, tiled, tmp_path):
    (tmp_path / "p.png").write_text("no picture")
    with pytest.raises(DataError, match=r"p\.png cannot be read as a picture"):
        compress_picture(whole, tmp_path / "p.png")
    with pytest.raises(DataError, match=r"\(h w 3\) for this model, not \(5, 5, 1\)"):
        compress_picture(whole, np.zeros((5, 5, 1)))
    with pytest.raises(DataError, match="range"):
        compress_picture(whole, np.full((5, 5, 3), 2.0))
    vectors = rk.build(
        data=VECTORS, encoder="mlp(width=8)", latent="vq(codes=4, dim=3)", decoder="mlp(width=8)"
    )
    with pytest.raises(BuildError, match="whose factors read one image field, and this one reads x"):
        compress_picture(vectors, picture(5, 5))
    smooth = rk.build(data=COLOR, encoder="mlp(width=8)", latent="gaussian(dim=3)", decoder="mlp(width=8)")
    with pytest.raises(PartArgumentError, match="is continuous"):
        compress_picture(smooth, picture(5, 5))


def test_another_model_and_damage_are_refused(whole, tiled):
    string = compress_picture(whole, picture(9, 9))
    with pytest.raises(CompressionError, match="was written with another model"):
        decompress_picture(tiled, string)
    for place in range(1, len(string)):
        damaged = string[:place] + bytes([string[place] ^ 1]) + string[place + 1 :]
        with pytest.raises(CompressionError):
            decompress_picture(whole, damaged)
    with pytest.raises(CompressionError):
        decompress_picture(whole, string[:-1])
    with pytest.raises(CompressionError, match=r"is of a picture: read it by .*decompress_picture"):
        whole.decompress([string])
    example = whole.compress({"x": torch.zeros(1, 8, 8, 3)})[0]
    with pytest.raises(CompressionError, match=r"is no picture file: read it by model\.decompress"):
        decompress_picture(whole, example)


@pytest.mark.parametrize("size", [(2**40, 4), (0, 4), (8, 8), (2**20, 2**20)])
def test_a_string_cannot_claim_another_size(whole, size):
    """The checksum is no proof: anyone can compute it."""
    body = compress_picture(whole, picture(9, 9))[5:]
    claimed = body[:4] + encode_varint(size[0]) + encode_varint(size[1]) + body[6:]
    assert body[:4] == fingerprint(whole)
    with pytest.raises(CompressionError):
        decompress_picture(whole, close_string(claimed, PICTURE_VERSION))


def test_a_large_picture_is_cut(whole, monkeypatch):
    monkeypatch.setattr("reprkit.models.pictures._LARGEST_TILE", 16)
    string = compress_picture(whole, picture(20, 33))
    assert decompress_picture(whole, string).shape == (20, 33, 3)
