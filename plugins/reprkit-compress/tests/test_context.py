"""Latent context: the classes of two neighbors, tables, bytes, and fewer bits where neighbors say something."""

import numpy as np
import pytest
import reprkit_compress.latents.context as module
import torch
from reprkit_compress.latents.context import CONTEXTS, Context, contexts

from reprkit.errors import CompressionError
from reprkit.types import Code, Features
from reprkit.utils.symbol_stack import PlainStack


def smooth(b, grid, dim, seed=0):
    """Whole numbers over 4, each near the mean of its left and upper neighbors."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(b, *grid, dim, generator=generator)
    y = torch.zeros_like(noise)
    for r in range(grid[0]):
        for c in range(grid[1]):
            left = y[:, r, c - 1] if c else 0
            upper = y[:, r - 1, c] if r else 0
            y[:, r, c] = 0.48 * (left + upper) + noise[:, r, c]
    return Features(x=(y.flatten(1, 2)).round() / 4 * 1.0, grid=grid)


def fitted(dim=3, seed=0, grid=(12, 10), b=40):
    torch.manual_seed(seed)
    latent = Context(dim, limit=20).eval()
    code = latent(smooth(b, grid, dim))
    counts = latent.zero_counts()
    latent.count_symbols(code, counts)
    latent.set_frequencies(counts)
    return latent


def zeros_like(code):
    return Code.of(code, z=torch.zeros_like(code.z))


def test_classes_are_by_sum_and_difference():
    left, upper = torch.meshgrid(torch.arange(-20, 21), torch.arange(-20, 21), indexing="ij")
    found = contexts(left, upper)
    assert found.unique().numel() == CONTEXTS == 39
    bounds = (-15, -8, -4, -2, -1, 0, 1, 2, 3, 5, 9, 16)
    for a, b in [(0, 0), (-20, 3), (2, 1), (7, 8), (8, 8), (-1, 1), (5, 0)]:
        wanted = 3 * sum(a + b >= bound for bound in bounds) + (abs(a - b) >= 2) + (abs(a - b) >= 5)
        assert int(found[a + 20, b + 20]) == wanted


def test_tables_are_of_the_counts_by_left_and_upper_neighbor():
    latent = Context(1, limit=2).eval()
    code = latent(Features(x=torch.tensor([[[1.0], [0], [2], [-1], [1], [0]]]) / 4, grid=(2, 3)))
    counts = latent.zero_counts()
    latent.count_symbols(code, counts)
    wanted = torch.zeros_like(counts)
    y = torch.tensor([[1, 0, 2], [-1, 1, 0]])
    for r in range(2):
        for c in range(3):
            left = y[r, c - 1] if c else torch.tensor(0)
            upper = y[r - 1, c] if r else torch.tensor(0)
            wanted[0, contexts(left, upper), y[r, c] + 2] += 1
    assert counts.equal(wanted)
    latent.set_frequencies(counts * 1000)
    assert (latent.tables.sum(-1) == 2**16).all()
    assert latent.tables.min() >= 1
    seen = wanted[0].sum(-1) > 0
    shares = wanted[0][seen] / wanted[0][seen].sum(-1, keepdim=True)
    torch.testing.assert_close(latent.tables[0][seen] / 2**16, shares, atol=0.01, rtol=0)


def test_bytes_are_the_bits_of_the_code_and_come_back():
    latent = fitted()
    code = latent(smooth(3, (12, 10), 3, seed=1))
    strings = latent.write(code)
    for bits, string in zip(code.bits.tolist(), strings, strict=True):
        assert bits - 8 < 8 * len(string) < bits * 1.01 + 80
    counts = latent.zero_counts()
    latent.count_symbols(code, counts)
    assert latent.table_bits(counts) == pytest.approx(float(code.bits.sum()), rel=1e-6)
    again = latent.read(strings, zeros_like(code))
    assert again.indices.equal(code.indices)
    assert again.z.equal(code.z)


def test_neighbors_save_bits():
    latent = fitted()
    code = latent(smooth(40, (12, 10), 3, seed=1))
    factorized = 0.0
    for column in code.indices.flatten(0, 1).unbind(1):
        share = column.bincount(minlength=41).double() / len(column)
        factorized -= float(share[column].log2().sum())
    assert float(code.bits.sum()) < 0.9 * factorized


def test_a_string_depends_on_no_batch_and_no_padding():
    latent = fitted(grid=(1, 100))
    mask = torch.arange(11)[None] < torch.tensor([[11], [6], [1]])
    code = latent(Features(x=smooth(3, (1, 11), 3, seed=2).x, mask=mask))
    strings = latent.write(code)
    for row, length in enumerate((11, 6, 1)):
        like = Code(z=torch.zeros(1, length, 3))
        assert latent.read([strings[row]], like).indices.equal(code.indices[row : row + 1, :length])


def test_the_coder_without_constriction_and_without_tables(monkeypatch):
    latent = fitted()
    code = latent(smooth(1, (5, 4), 3, seed=1))
    fast = latent.write(code)
    monkeypatch.setattr(module, "open_stack", PlainStack)
    assert latent.write(code) == fast
    assert latent.read(fast, zeros_like(code)).indices.equal(code.indices)
    latent.tables.zero_()
    assert not latent.has_tables
    plain = latent.write(code)
    assert len(plain[0]) == pytest.approx(60 * np.log2(41) / 8, abs=9)
    assert latent.read(plain, zeros_like(code)).indices.equal(code.indices)


def test_other_tables_are_noticed():
    latent, other = fitted(), fitted(grid=(1, 30))
    code = latent(smooth(1, (12, 10), 3, seed=1))
    with pytest.raises(CompressionError, match="other tables"):
        other.read(latent.write(code), zeros_like(code))


@pytest.mark.slow
def test_the_price_in_training_learns_the_neighbors():
    torch.manual_seed(0)
    latent, alone = Context(2), Context(2)
    optimizer = torch.optim.Adam([*latent.parameters(), *alone.parameters()], 1e-2)
    for step in range(300):
        optimizer.zero_grad()
        given = smooth(16, (8, 8), 2, seed=step)
        order = torch.randperm(64)  # without neighbors
        (
            latent(given).losses["kl"] + alone(Features(x=given.x[:, order], grid=(8, 8))).losses["kl"]
        ).backward()
        optimizer.step()
    given = smooth(64, (8, 8), 2, seed=1000)
    nats = [float(each.eval()(given).metrics["kl"]) for each in (latent, alone)]
    assert nats[0] < 0.9 * nats[1]
    assert (latent.weights_of_neighbors > 0.25).all()
