"""A file of compressed examples: the strings of ``model.compress`` with the names of their examples.

::

    "rkcodes1" │ number of examples │ for each: length of its name, name (UTF-8), length of its string, string

Numbers are variable-length integers.  Each string has its own checksum and the fingerprint of the model that wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reprkit.errors import CompressionError
from reprkit.utils.atomic_files import explain_os_error, write_bytes
from reprkit.utils.varints import ByteReader, encode_bytes, encode_varint

MAGIC = b"rkcodes1"
_MAX_NAME = 4096  # bytes


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
        body += encode_name(name) + encode_bytes(string)
    return write_content(path, bytes(body))


def read_code_file(path: str | Path) -> tuple[list[bytes], list[str]]:
    """Read a file of ``write_code_file``: strings and names.

    Raises:
        CompressionError: no such file, another kind of file, or a damaged one.
    """
    content = read_content(path)
    if not content.startswith(MAGIC):
        raise CompressionError(f"{path} is no file of compressed examples: reprkit compress writes one")
    reader = ByteReader(content, str(path), len(MAGIC))
    strings, names = [], []
    for _ in range(reader.varint()):  # each takes at least two bytes, so a wrong count ends at the file's end
        names.append(read_name(reader))
        strings.append(reader.byte_string())
    reader.check_end()
    return strings, names


# ------------------------------------------------------------------ what all files of compressed data share


def write_content(path: str | Path, content: bytes) -> Path:
    """Write a file of compressed data, atomically; missing folders are created.

    Raises:
        CompressionError: it cannot be written.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return write_bytes(path, content)
    except OSError as error:
        raise CompressionError(f"cannot write {path}: {explain_os_error(error)}") from error


def read_content(path: str | Path) -> bytes:
    """Read a file of compressed data.

    Raises:
        CompressionError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CompressionError(f"cannot read {path}: {explain_os_error(error)}") from error


def encode_name(name: str) -> bytes:
    """Encode the name of an example or file; a longer one is cut to 4,096 bytes."""
    return encode_bytes(name.encode()[:_MAX_NAME])


def read_name(reader: ByteReader) -> str:
    """Return the next name."""
    return reader.byte_string().decode("utf-8", "replace")
