"""Small idx files for the tests, written from the format's description."""

import gzip
import struct

import numpy as np

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    """The array as an idx file: two zeros, type, number of axes, sizes, big-endian values."""
    head = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim])
    return (
        head
        + struct.pack(f">{array.ndim}i", *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def write_fashion(folder, counts=(30, 20)):
    """Write random images in the layout of Fashion-MNIST; return all pixels and labels, train first."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (sum(counts), 28, 28), dtype=np.uint8)
    labels = (np.arange(sum(counts)) % 10).astype(np.uint8)
    for part, rows in (("train", slice(counts[0])), ("t10k", slice(counts[0], None))):
        for what, array in (("images-idx3", pixels[rows]), ("labels-idx1", labels[rows])):
            (folder / f"{part}-{what}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array), 1))
    return pixels, labels
