import importlib.util

import numpy as np
import pytest

from reprkit.errors import CompressionError
from reprkit.utils import symbol_coder
from reprkit.utils.symbol_coder import (
    CHECKSUM,
    FastColumnCoder,
    PlainColumnCoder,
    decode_symbols,
    encode_symbols,
    symbols_checksum,
    to_frequencies,
)

CODERS = [
    PlainColumnCoder,
    pytest.param(
        FastColumnCoder,
        marks=pytest.mark.skipif(
            importlib.util.find_spec("constriction") is None, reason="constriction is not installed"
        ),
    ),
]


def skewed(vocab, seed=0):
    """Return frequencies (q v) of symbols that occur unequally often."""
    rng = np.random.default_rng(seed)
    tables = np.zeros((len(vocab), max(vocab)), np.int64)
    for slot, entries in enumerate(vocab):
        tables[slot, :entries] = to_frequencies(rng.integers(0, 100, entries) ** 3)
    return tables


@pytest.mark.parametrize("entries", [1, 2, 3, 1000, symbol_coder.MAX_ENTRIES])
def test_frequencies_are_positive_and_sum_to_the_total(entries):
    for counts in (
        np.zeros(entries, np.int64),
        np.arange(entries) ** 2,
        np.eye(1, entries, dtype=np.int64)[0] * 10**12,
    ):
        frequencies = to_frequencies(counts)
        assert frequencies.sum() == 2**16
        assert frequencies.min() >= 1
        assert frequencies[counts.argmax()] == frequencies.max()


def test_a_checksum_tells_symbols_apart_and_does_not_depend_on_their_type():
    symbols = np.array([3, 1, 70_000])
    checksum = symbols_checksum(symbols)
    assert len(checksum) == CHECKSUM
    assert checksum == symbols_checksum(symbols.astype(np.int32))
    assert len({checksum, symbols_checksum(symbols[::-1]), symbols_checksum(symbols + 2**16)}) == 3


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("vocab", [(2,), (8, 5, 5), (1, 3), (512,) * 3, (2**14,)], ids=str)
def test_both_coders_write_the_same_bytes(coder, vocab):
    rng = np.random.default_rng(1)
    tables = [row[:entries] for row, entries in zip(skewed(vocab), vocab, strict=True)]
    for count in (0, 1, 2, 300):
        columns = [rng.integers(0, entries, count) for entries in vocab]
        string = coder(tables).encode(columns)
        assert string == PlainColumnCoder(tables).encode(columns)
        for column, again in zip(columns, coder(tables).decode(string, count), strict=True):
            assert np.array_equal(column, again)


@pytest.mark.parametrize("tabled", [True, False])
@pytest.mark.parametrize("vocab", [(2,) * 9, (16, 3), (2**24,), (20_000, 7)], ids=str)
def test_symbols_survive_with_and_without_tables(vocab, tabled):
    rng = np.random.default_rng(2)
    rows = [np.stack([rng.integers(0, v, n) for v in vocab], 1) for n in (0, 5, 1)]
    # A slot with too many entries for a table does not use its row.
    tables = skewed([min(v, 2**14) for v in vocab]) if tabled else None
    strings = encode_symbols(rows, vocab, tables)
    for row, again in zip(rows, decode_symbols(strings, [0, 5, 1], vocab, tables), strict=True):
        assert np.array_equal(row, again)


def test_a_string_under_other_tables_or_of_another_length_raises():
    rows, vocab = [np.arange(40)[:, None] % 8], (8,)
    (string,) = encode_symbols(rows, vocab, skewed(vocab))
    with pytest.raises(CompressionError, match="more symbols than expected"):
        decode_symbols([string], [39], vocab, skewed(vocab))
    with pytest.raises(CompressionError, match="under other tables"):
        decode_symbols([string], [40], vocab, None)


def test_size_is_within_one_percent_of_the_entropy_at_65536_symbols():
    tables = skewed((512,))
    symbols = np.random.default_rng(3).choice(512, p=tables[0] / 2**16, size=2**16)
    bits = -np.log2(tables[0][symbols] / 2**16).sum()
    (string,) = encode_symbols([symbols[:, None]], (512,), tables)
    assert bits < 8 * len(string) < 1.01 * bits


def test_the_coder_without_constriction_is_used_where_it_is_missing(monkeypatch):
    symbols = [np.arange(50)[:, None] % 3]
    (string,) = encode_symbols(symbols, (3,), None)
    monkeypatch.setitem(__import__("sys").modules, "constriction", None)
    symbol_coder.fast_coder_agrees.cache_clear()
    try:
        assert isinstance(symbol_coder._column_coder([np.array([2**15, 2**15])]), PlainColumnCoder)
        assert encode_symbols(symbols, (3,), None) == [string]
    finally:
        symbol_coder.fast_coder_agrees.cache_clear()
