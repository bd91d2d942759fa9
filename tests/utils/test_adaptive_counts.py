import numpy as np

from reprkit.utils import adaptive_counts
from reprkit.utils.adaptive_counts import AdaptiveCounts

VOCAB = 6


def code(columns, counts, logs):
    """Return the bits of the symbols (t b), each before it is learned."""
    bits = 0.0
    for column in columns:
        mixed = counts.mix(logs)
        shares = np.exp(mixed - mixed.max(1, keepdims=True))
        bits -= np.log2(np.take_along_axis(shares, column[:, None], 1)[:, 0] / shares.sum(1)).sum()
        counts.update(mixed, column, len(column))
    return bits


def test_the_estimate_is_that_of_interpolated_counts():
    """Against counts by hand: after "0 1" three times and "0 2" once, of one stream, with contexts of one symbol."""
    counts = AdaptiveCounts(VOCAB, 1)
    logs = np.full((1, VOCAB), -np.log(VOCAB))
    for symbol in (0, 1, 0, 1, 0, 1, 0, 2, 0):
        counts.update(counts.mix(logs), np.array([symbol]), 1)
    counts._rows = {key: row for key, row in counts._rows.items() if key[0] == 1}
    counts.mix(logs)
    # Update exclusion: a symbol that a longer context knew is not counted again after the shorter one.
    seen = {symbol: int(counts._counts[counts._rows[1, 0], counts._column[symbol]]) for symbol in (1, 2)}
    assert seen[2] == 1 <= seen[1] <= 3
    total, discount = sum(seen.values()), 0.4
    expected = np.full(VOCAB, discount * 2 / total / VOCAB)
    for symbol, count in seen.items():
        expected[symbol] += (count - discount) / total
    np.testing.assert_allclose(np.exp(counts._logs[1, 0]), expected)


def test_repeated_data_costs_little_and_unpredictable_data_no_more_than_the_model_says():
    generator = np.random.default_rng(0)
    logs = np.full((4, VOCAB), -np.log(VOCAB))
    phrase = generator.integers(0, VOCAB, (40, 4))
    once = code(phrase, AdaptiveCounts(VOCAB, 4), logs)
    often = code(np.tile(phrase, (10, 1)), AdaptiveCounts(VOCAB, 4), logs)
    assert often < 2.5 * once
    noise = generator.integers(0, VOCAB, (500, 4))
    assert code(noise, AdaptiveCounts(VOCAB, 4), logs) < 1.03 * noise.size * np.log2(VOCAB)


def test_a_full_table_goes_on_without_new_contexts(monkeypatch):
    monkeypatch.setattr(adaptive_counts, "_CONTEXTS", 20)
    counts = AdaptiveCounts(VOCAB, 2)
    code(np.random.default_rng(1).integers(0, VOCAB, (200, 2)), counts, np.zeros((2, VOCAB)))
    assert len(counts._rows) < 20
    assert len(counts._counts) <= 1024


def test_counts_stop_before_they_overflow(monkeypatch):
    """A long run of one symbol stays as cheap as it was."""
    monkeypatch.setattr(adaptive_counts, "_MOST", 30)
    counts, logs = AdaptiveCounts(VOCAB, 2), np.full((2, VOCAB), -np.log(VOCAB))
    bits = [code(np.zeros((40, 2), np.int64), counts, logs) for _ in range(5)]
    assert counts._counts.max() == 30
    assert max(bits[2:]) < bits[1] < bits[0]
