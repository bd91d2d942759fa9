"""FLAC files that were streamed: their header does not say how many samples they hold, and their last frame does (RFC 9639)."""

from __future__ import annotations

import functools
import os
from typing import BinaryIO

MAGIC = b"fLaC"
_INFO = 42  # bytes of the magic, the head of the block STREAMINFO, and the block
_COUNT = slice(18, 26)  # its rate, channels and bits, and in the lower 36 bits the number of samples
_COUNT_BITS = (1 << 36) - 1
# Bytes at the end of the file in which the last frame is looked for; a frame of CD sound has 20 kB.
_TAIL = 1 << 18
_ID3V1 = 128  # bytes of a tag after the last frame


def counting_header(file: BinaryIO) -> tuple[bytes, int] | None:
    """Return a header with the number of samples, and the size of the old one; None where the file states it, or is damaged."""
    file.seek(0)
    head = file.read(_INFO)
    if len(head) < _INFO or head[:4] != MAGIC or head[4] & 0x7F:  # STREAMINFO is the first block
        return None
    stated = int.from_bytes(head[_COUNT], "big")
    if stated & _COUNT_BITS:
        return None
    size = file.seek(0, os.SEEK_END)
    file.seek(max(_INFO, size - _TAIL))
    count = _samples(file.read(), int.from_bytes(head[8:10], "big"))
    if count is None or count > _COUNT_BITS:
        return None
    return head[: _COUNT.start] + (stated | count).to_bytes(8, "big") + head[_COUNT.stop :], _INFO


def _samples(tail: bytes, block: int) -> int | None:
    """Return the number of samples up to the end of the last frame; None if the file does not end with a whole frame."""
    if tail[-_ID3V1:][:3] == b"TAG":
        tail = tail[:-_ID3V1]
    place = len(tail)
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        found = _frame_end(tail[place : place + 16], block)
        # The checksum of a whole frame, with its own at the end, is zero.
        if found is not None and _crc(tail[place:], 0x8005, 16) == 0:
            return found
    return None


def _frame_end(head: bytes, block: int) -> int | None:
    """Return the number of samples up to the end of the frame with this header; None if it is none.

    Args:
        head: the first 16 bytes.
        block: samples of a frame, where all but the last one have as many.
    """
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    number, place = _coded_number(head, 4)
    size_bytes = {6: 1, 7: 2}.get(size_code, 0)
    rate_bytes = {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    check = place + size_bytes + rate_bytes
    if number is None or size_code == 0 or rate_code == 15 or check >= len(head):
        return None
    if _crc(head[: check + 1], 0x07, 8):
        return None
    if size_bytes:
        size = 1 + int.from_bytes(head[place : place + size_bytes], "big")
    else:
        size = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 256 << size_code - 8
    return (number if head[1] & 1 else number * block) + size


def _coded_number(head: bytes, place: int) -> tuple[int | None, int]:
    """Return the number of the frame, or of its first sample, which is coded as UTF-8 codes a character, and where it ends."""
    first = head[place]
    length = 1 if first < 0x80 else 8 - (first ^ 0xFF).bit_length()
    rest = head[place + 1 : place + length]
    if length in (0, 8) or (length == 1 and first >= 0x80) or any(byte & 0xC0 != 0x80 for byte in rest):
        return None, place
    number = first if length == 1 else first & (0x7F >> length)
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number, place + length


def _crc(content: bytes, polynomial: int, bits: int) -> int:
    """Return the cyclic redundancy check of the content: high bits first, from zero."""
    table = _crc_table(polynomial, bits)
    value, shift, mask = 0, bits - 8, (1 << bits) - 1
    for byte in content:
        value = (value << 8 & mask) ^ table[(value >> shift) ^ byte]
    return value


@functools.cache
def _crc_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for value in range(256):
        rest = value << bits - 8
        for _ in range(8):
            rest = (rest << 1 ^ polynomial if rest >> bits - 1 else rest << 1) & ((1 << bits) - 1)
        table.append(rest)
    return table
