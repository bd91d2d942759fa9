"""Latent context-tables: order of coding, contexts, bytes and their size."""

import numpy as np
import pytest
import torch
from reprkit_compress.latents.context_coder import passes

import reprkit as rk
from reprkit.errors import CompressionError
from reprkit.types import Code


def code_of(numbers, limit, mask=None):
    """A code of whole numbers (b h w d)."""
    b, h, w, d = numbers.shape
    indices = torch.from_numpy(numbers.reshape(b, h * w, d) + limit)
    return Code(z=(indices - limit).float(), indices=indices, grid=(h, w), mask=mask)


def correlated(shape, seed=0):
    """Numbers (b h w d) whose sizes vary slowly over places and fall with the channel."""
    random = np.random.default_rng(seed)
    _, h, w, d = shape
    rows, columns = np.linspace(0, 3, h)[:, None], np.linspace(0, 5, w)[None]
    size = 4 * np.exp(1.5 * np.sin(rows + columns))[None, :, :, None] * 0.7 ** np.arange(d)
    return np.round(random.laplace(size=shape) * size).astype(np.int64).clip(-255, 255)


def fitted(dim, codes):
    latent = rk.create("latent", f"context-tables(dim={dim}, predicted=1)").eval()
    counts = latent.zero_counts()
    latent.count_symbols(codes, counts)
    latent.set_frequencies(counts)
    return latent, counts


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2), (9, 13)])
def test_every_place_is_visited_once_with_known_neighbors(size):
    seen = np.zeros(size, int)
    for (rows, columns), beside, count in passes(*size):
        assert count.shape == (beside[0].shape[0], len(rows))
        known = seen[beside] * count
        assert (known == count).all()  # a neighbor that counts was visited before
        np.add.at(seen, (rows, columns), 1)
    assert (seen == 1).all()


@pytest.mark.parametrize("size", [(1, 5), (6, 11)])
def test_numbers_come_back_exactly_also_beyond_the_tables(size):
    numbers = correlated((3, *size, 5))
    numbers[0, 0, 0, 0], numbers[1, -1, -1, 4] = 255, -255
    code = code_of(numbers, 255)
    for latent in (fitted(5, code)[0], rk.create("latent", "context-tables(dim=5)").eval()):
        strings = latent.write(code)
        again = latent.read(strings, Code.of(code, z=torch.zeros_like(code.z)))
        assert torch.equal(again.indices, code.indices)
        assert torch.equal(again.z, code.z)
        alone = latent.read(strings[2:], Code(z=code.z[2:] * 0, grid=size))
        assert torch.equal(alone.indices, code.indices[2:])


def test_padding_is_not_written():
    numbers = correlated((2, 1, 9, 4))
    mask = torch.tensor([[True] * 9, [True] * 5 + [False] * 4])
    code = code_of(numbers, 255, mask)
    other = numbers.copy()
    other[1, 0, 5:] = 99
    latent, _ = fitted(4, code)
    strings = latent.write(code)
    assert strings == latent.write(code_of(other, 255, mask))
    again = latent.read(strings, Code.of(code, z=torch.zeros_like(code.z)))
    assert torch.equal(again.indices[mask], code.indices[mask])


def test_the_size_is_that_of_the_tables_and_below_tables_of_channels_alone():
    code = code_of(correlated((4, 24, 24, 12)), 255)
    latent, counts = fitted(12, code)
    size = 8 * sum(map(len, latent.write(code)))
    assert size == pytest.approx(latent.table_bits(counts), rel=0.005)
    plain = rk.create("latent", "rounded(dim=12, limit=255)").eval()
    own = plain.zero_counts()
    plain.count_symbols(code, own)
    plain.set_frequencies(own)
    assert size < 0.9 * 8 * sum(map(len, plain.write(code)))


def test_smooth_means_are_predicted():
    slope = np.broadcast_to(np.arange(16)[:, None, None] * 3 + np.arange(16)[None, :, None], (1, 16, 16, 1))
    code = code_of(np.ascontiguousarray(slope), 255)
    sizes = {}
    for predicted in (0, 1):
        latent = rk.create("latent", f"context-tables(dim=1, predicted={predicted})").eval()
        counts = latent.zero_counts()
        latent.count_symbols(code, counts)
        latent.set_frequencies(counts)
        sizes[predicted] = len(latent.write(code)[0])
    assert sizes[1] < 0.5 * sizes[0]


def test_tables_are_saved_and_damage_is_found(tmp_path):
    code = code_of(correlated((1, 8, 8, 6)), 255)
    latent, _ = fitted(6, code)
    (string,) = latent.write(code)
    copy = rk.create("latent", "context-tables(dim=6, predicted=1)").eval()
    copy.load_state_dict(latent.state_dict())
    like = Code.of(code, z=torch.zeros_like(code.z))
    assert torch.equal(copy.read([string], like).indices, code.indices)
    with pytest.raises(CompressionError, match="does not end where its symbols end"):
        copy.read([string + b"\1\2\3\4"], like)
