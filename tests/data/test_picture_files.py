"""Pictures as their decoder reads them: suffixes, HEIC, 16-bit levels."""

import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, features

import reprkit as rk
from reprkit.data.formats import image_files
from reprkit.data.formats.images import Images
from reprkit.errors import DataError, PartArgumentError


def fill(folder, values, name="1.png"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(folder / name)
    return folder


def deep(levels, size=24):
    """A ramp of ``levels`` gray levels in a 16-bit picture (size size)."""
    return np.linspace(0, levels - 1, size * size).round().astype(np.uint16).reshape(size, size)


def test_every_suffix_that_pillow_decodes_is_read(tmp_path):
    red = Image.new("RGB", (8, 8), "red")
    names = ["1.jfif", "2.tga", "3.jpe", "4.dib", "5.jp2"] + (["6.avif"] if features.check("avif") else [])
    for name in names:
        red.save(tmp_path / name)
    data = rk.dataset(tmp_path, size=8)
    assert data.files == names
    assert torch.allclose(data.batch(range(len(names)))["x"][:, 4, 4], torch.tensor([1.0, 0, 0]), atol=0.05)
    excluded = {".pdf", ".eps", ".ps", ".h5", ".hdf", ".mpg", ".wmf", ".grib"}
    assert not excluded & image_files.suffixes()


def test_heic_is_read_by_pillow_heif_and_named_without_it(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (64, 64), "blue")).save(tmp_path / "1.heic")
    data = rk.dataset(tmp_path, size=8)
    assert torch.allclose(data[0]["x"][4, 4], torch.tensor([0.0, 0, 1]), atol=0.05)
    monkeypatch.setattr(image_files, "suffixes", lambda: frozenset({".png", ".jpg"}))
    monkeypatch.setattr("reprkit.data.formats.images.suffixes", image_files.suffixes)
    with pytest.raises(DataError, match=r"(?s)holds no images.*1\.heic: HEIC is decoded by pillow-heif"):
        rk.dataset(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "2.png")
    with pytest.raises(DataError, match=r"(?s)only 1 of the 2 images.*pip install 'reprkit\[heic\]'"):
        rk.dataset(tmp_path)


def test_missing_pillow_heif_is_no_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert image_files.register_decoders.__wrapped__() is False


@pytest.mark.parametrize("cached", [False, True])
def test_levels_of_12_bits_are_kept(tmp_path, cached):
    values = deep(4096)
    folder = fill(tmp_path / "set", values)
    with pytest.raises(
        DataError, match=r"(?s)up to 4095 of 65535.*16 gray levels\n.*range=\(0, 4095\) for 12"
    ):
        Images(folder, 24, gray=True)
    data = Images(folder, 24, gray=True, range=(0, 4095), cache=tmp_path / "cache" if cached else None)
    x = data[0]["x"][..., 0]
    assert len(x.unique()) == len(np.unique(values)) == 576
    np.testing.assert_allclose(x.numpy(), values / 4095, atol=1e-5)
    assert data.signature["x"].range == (0, 1)
    assert "reduced_count" not in data.facts
    assert torch.equal(Images(folder, 24, range=(0, 4095))[0]["x"], data[0]["x"].expand(-1, -1, 3))


def test_encode_reads_files_as_the_data_set_did(tmp_path):
    folder = fill(tmp_path / "set", deep(4096, 16))
    data = rk.dataset(folder, size=16, gray=True, range=(0, 4095), fit="pad")
    model = rk.build(data=data, encoder="mlp(width=8)", latent="continuous(dim=2)", decoder="mlp(width=8)")
    from_file = model.eval().encode(str(folder / "1.png")).z
    torch.testing.assert_close(from_file, model.encode(data.batch([0])).z)


def test_pictures_reduced_to_8_bits_are_counted(tmp_path):
    folder = fill(tmp_path, deep(65536))
    data = Images(folder, 24, gray=True)
    assert data.facts["reduced_count"] == 1
    assert "1 pictures of 16 bits are read as 8 bits (range=(0, 65535)" in data.summary()
    assert len(Images(folder, 24, gray=True, range=(0, 65535))[0]["x"].unique()) == 576


def test_floats_and_8_bits_have_ranges(tmp_path):
    floats = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    folder = fill(tmp_path / "floats", floats, "1.tiff")
    with pytest.raises(DataError, match="say with range="):
        Images(folder, 8)
    np.testing.assert_allclose(
        Images(folder, 8, gray=True, range=(-1, 1))[0]["x"][..., 0], (floats + 1) / 2, atol=1e-4
    )
    with pytest.raises(DataError, match=r"span -1 to 1, out of range=\(0, 1\)"):
        Images(folder, 8, range=(0, 1))
    bytes_ = fill(tmp_path / "bytes", np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert Images(bytes_, 8, gray=True, range=(0, 63))[0]["x"].max() == 1
    with pytest.raises(DataError, match="it has 8 bits"):
        Images(bytes_, 8, range=(0, 4095))
    with pytest.raises(PartArgumentError, match="must rise"):
        Images(bytes_, 8, range=(1, 0))


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_16_bits(path, pixels):
    """Write 16-bit colors (h w 3), or with alpha (h w 4), as PNG."""
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2"))
    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_16_bit_colors_keep_their_levels_with_a_range(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 65536, (8, 8, 3))
    write_16_bits(tmp_path / "1.png", pixels)
    plain = Images(tmp_path, 8)
    assert plain.facts["reduced_count"] == 1
    np.testing.assert_array_equal((plain[0]["x"].numpy() * 255).round(), pixels >> 8)
    pytest.importorskip("torchvision")
    deep = Images(tmp_path, 8, range=(0, 65535))[0]["x"].numpy()
    np.testing.assert_array_equal((deep * 65535).round(), pixels)
    gray = Images(tmp_path, 8, range=(0, 65535), gray=True)[0]["x"].numpy()
    np.testing.assert_allclose(gray[..., 0] * 65535, pixels @ [0.299, 0.587, 0.114], atol=0.6)
    half = np.concatenate([pixels, np.full((8, 8, 1), 32768)], 2)
    half[0, 0, 3] = 0
    write_16_bits(tmp_path / "1.png", half)
    white = Images(tmp_path, 8, range=(0, 65535))[0]["x"].numpy() * 65535
    opaque = half[..., 3:] / 65535
    np.testing.assert_allclose(white, pixels * opaque + 65535 * (1 - opaque), atol=0.6)
    with pytest.raises(DataError, match=r"out of range=\(0, 4095\)"):
        Images(tmp_path, 8, range=(0, 4095))
    monkeypatch.setitem(sys.modules, "torchvision.io", None)
    with pytest.raises(DataError, match="16-bit colors, of which Pillow decodes 8 bits: install torchvision"):
        Images(tmp_path, 8, range=(0, 65535))


def test_16_bit_colors_of_other_formats_have_no_range(tmp_path):
    pixels = np.full((4, 4, 3), 30_000, ">u2")
    (tmp_path / "1.ppm").write_bytes(b"P6 4 4 65535\n" + pixels.tobytes())
    assert Images(tmp_path, 4).facts["reduced_count"] == 1
    with pytest.raises(DataError, match="16-bit colors, of which Pillow decodes 8 bits: convert it to PNG"):
        Images(tmp_path, 4, range=(0, 65535))
