"""A file of compressed examples: the strings of ``model.compress`` with the names of their examples.

::

    "rkcodes1" │ number of examples │ for each: length of its name, name (UTF-8), length of its string, string

Numbers are variable-length integers.  Each string has its own checksum and the fingerprint of the model that wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reprkit.errors import CompressionError
from reprkit.models.code_header import encode_varint
from reprkit.utils.atomic_files import explain_os_error, write_bytes

MAGIC = b"rkcodes1"
_MAX_NAME = 4096  # bytes
_MAX_VARINT = 9  # bytes of a number below 2**63


def write_code_file(path: str | Path, strings: Sequence[bytes], names: Sequence[str] | None = None) -> Path:
    """Write the strings of ``model.compress``, atomically.

    Args:
        path: the file; missing folders are created.
        strings: one for each example.
        names: of the examples, such as their files' without the suffix; "" for all by default.

    Raises:
        CompressionError: the file cannot be written.
    """
    listed = [""] * len(strings) if names is None else list(names)
    body = bytearray(MAGIC) + encode_varint(len(strings))
    for name, string in zip(listed, strings, strict=True):
        encoded = name.encode()[:_MAX_NAME]
        body += encode_varint(len(encoded)) + encoded + encode_varint(len(string)) + string
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return write_bytes(path, bytes(body))
    except OSError as error:
        raise CompressionError(f"cannot write {path}: {explain_os_error(error)}") from error


def read_code_file(path: str | Path) -> tuple[list[bytes], list[str]]:
    """Read a file of ``write_code_file``: strings and names.

    Raises:
        CompressionError: no such file, another kind of file, or a damaged one.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CompressionError(f"cannot read {path}: {explain_os_error(error)}") from error
    if not content.startswith(MAGIC):
        raise CompressionError(f"{path} is no file of compressed examples: reprkit compress writes one")
    reader = FileReader(content, len(MAGIC), str(path))
    strings, names = [], []
    for _ in range(reader.varint()):
        names.append(reader.take(reader.varint()).decode("utf-8", "replace"))
        strings.append(reader.take(reader.varint()))
    reader.check_end()
    return strings, names


class FileReader:
    """A position in the file's content; each example takes at least two bytes, so a wrong count ends at the file's end."""

    def __init__(self, content: bytes, place: int, where: str) -> None:
        self.content, self.place, self.where = content, place, where

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        if size > len(self.content) - self.place:
            raise CompressionError(f"{self.where} is damaged or cut short")
        self.place += size
        return self.content[self.place - size : self.place]

    def varint(self) -> int:
        """Return the next whole number."""
        value = 0
        for index in range(_MAX_VARINT):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value
        raise CompressionError(f"{self.where} is damaged: a number in it is too long")

    def check_end(self) -> None:
        """Check that nothing is left."""
        if self.place != len(self.content):
            raise CompressionError(
                f"{self.where} is damaged: {len(self.content) - self.place} bytes follow the last example"
            )
