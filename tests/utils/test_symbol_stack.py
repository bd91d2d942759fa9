"""Stacks of symbols: both coders write the same bytes, and groups come back in reverse order."""

import numpy as np
import pytest

import reprkit.utils.symbol_stack as module
from reprkit.errors import CompressionError
from reprkit.utils.symbol_coder import decode_symbols, encode_symbols, to_frequencies
from reprkit.utils.symbol_stack import FastStack, PlainStack, open_stack

GENERATOR = np.random.default_rng(0)
TABLES = np.stack([to_frequencies(GENERATOR.integers(0, 1000, 21) ** 2 // (k + 1)) for k in range(9)])
ROWS = GENERATOR.integers(0, 9, 400)
SYMBOLS = np.array([GENERATOR.choice(21, p=TABLES[row] / 2**16) for row in ROWS])
FEW = to_frequencies(np.array([1, 500, 90000]))


@pytest.fixture(params=[PlainStack, FastStack])
def kind(request):
    return request.param


def write(stack):
    stack.push_each(SYMBOLS, TABLES, ROWS)
    stack.push(SYMBOLS % 3, FEW)
    stack.push(np.zeros(5, np.int64), np.array([2**16]))
    return stack.to_bytes()


def test_both_stacks_write_the_same_bytes_in_any_chunks(monkeypatch):
    plain = write(PlainStack())
    assert write(FastStack()) == plain
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert write(FastStack()) == plain
    assert (FastStack(plain).pop(5, np.array([2**16])) == 0).all()


def test_groups_come_back_in_reverse_order(kind):
    stack = kind(write(open_stack()))
    assert not stack.pop(5, np.array([2**16])).any()
    assert np.array_equal(stack.pop(400, FEW), SYMBOLS % 3)
    first, rest = stack.pop_each(TABLES, ROWS[:100]), stack.pop_each(TABLES, ROWS[100:])
    assert np.array_equal(np.append(first, rest), SYMBOLS)
    assert stack.empty()


def test_one_group_is_the_string_of_the_symbol_coder(kind):
    stack = kind()
    stack.push(SYMBOLS, TABLES[0])
    assert [stack.to_bytes()] == encode_symbols([SYMBOLS[:, None]], (21,), TABLES[:1])


def test_bytes_left_are_noticed(kind):
    stack = kind(write(open_stack()))
    stack.pop(5, np.array([2**16]))
    assert not stack.empty()


def test_a_string_with_a_zero_at_its_end_is_damaged(kind):
    for string in (b"abcd\0\0\0\0", b"abc\0"):
        with pytest.raises(CompressionError, match="damaged"):
            kind(string)
        with pytest.raises(CompressionError, match="damaged"):
            decode_symbols([string], [2], (21,), TABLES[:1])
