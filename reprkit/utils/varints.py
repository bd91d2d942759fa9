"""Binary formats of variable-length integers and byte strings: writing, and reading with checks."""

from __future__ import annotations

from typing import NoReturn

from reprkit.errors import CompressionError

_MAX_BITS = 64  # of a number


def encode_varint(number: int) -> bytes:
    """Encode a whole number from 0 in bytes of 7 bits, the lowest first (LEB128)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def encode_bytes(content: bytes) -> bytes:
    """Encode bytes, after their length; ``ByteReader.byte_string`` reads them."""
    return encode_varint(len(content)) + content


class ByteReader:
    """Reads a string or file from a position on; every error names it.

    Args:
        content: the bytes.
        where: what they are, for messages, such as a path.
        position: of the first byte to read.
    """

    def __init__(self, content: bytes, where: str, position: int = 0) -> None:
        self._content, self._where, self._position = content, where, position

    @property
    def size(self) -> int:
        """Number of bytes, those that were read included."""
        return len(self._content)

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error for content that cannot be true."""
        raise CompressionError(f"{self._where} is damaged: {reason}")

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        end = self._position + count
        if end > len(self._content):
            self.refuse("it is cut short")
        taken, self._position = self._content[self._position : end], end
        return taken

    def varint(self) -> int:
        """Return the next whole number."""
        number = 0
        for shift in range(0, _MAX_BITS, 7):
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        self.refuse(f"a number in it is too long (over {_MAX_BITS} bits)")

    def byte_string(self) -> bytes:
        """Return the next bytes that ``encode_bytes`` wrote."""
        return self.take(self.varint())

    def check_end(self) -> None:
        """Check that nothing is left."""
        if left := len(self._content) - self._position:
            self.refuse(f"{left} bytes follow its end")
