"""Reader of Qt's binary resource archives (.rcc), which hold the photographs of Debian's gcompris-qt-data."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from reprkit.errors import DataError

_FOLDER, _ZLIB, _ZSTANDARD = 2, 1, 4  # flags of an entry


def read_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each file of an archive: its path in the archive, and its content.

    Numbers are big-endian.  After ``qres``: version, and the offsets of tree, data and names.  A tree entry
    has the offset of its name (u32), flags (u16), and for a folder the count and the number of its first child
    (u32, u32), for a file at byte 10 the offset of its data; 14 bytes, from version 2 on 8 more (a time).
    Data: length (u32), bytes; compressed ones begin with their full size (u32).  Name: length (u16), a hash
    (u32), UTF-16.

    Raises:
        DataError: the file is no such archive, is damaged, or is compressed with Zstandard.
    """
    raw = path.read_bytes()
    try:
        if raw[:4] != b"qres":
            raise DataError(f"{path} is not a Qt resource archive (.rcc)")
        version, tree, data, names = struct.unpack_from(">4I", raw, 4)
        size = 22 if version >= 2 else 14
        pending = [(0, "")]
        while pending:
            number, parent = pending.pop()
            at = tree + number * size
            name_at, flags = struct.unpack_from(">IH", raw, at)
            (length,) = struct.unpack_from(">H", raw, names + name_at)
            start = names + name_at + 6
            if start + 2 * length > len(raw):
                raise DataError(f"{path} is damaged: it ends in the middle of a name")
            name = raw[start : start + 2 * length].decode("utf-16-be") if number else ""
            full_name = f"{parent}/{name}".lstrip("/")
            if flags & _FOLDER:
                count, first = struct.unpack_from(">II", raw, at + 6)
                if number >= first or first + count > len(raw) // size:
                    raise DataError(f"{path} is damaged: the children of folder {full_name!r} are not in it")
                pending += [(first + child, full_name) for child in range(count)]
            else:
                (offset,) = struct.unpack_from(">I", raw, at + 10)
                yield full_name, _read_content(raw, data + offset, flags, path)
    except (struct.error, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}") from error


def _read_content(raw: bytes, at: int, flags: int, path: Path) -> bytes:
    if flags & _ZSTANDARD:
        raise DataError(f"{path} is compressed with Zstandard, which is not supported")
    (length,) = struct.unpack_from(">I", raw, at)
    content = raw[at + 4 : at + 4 + length]
    if len(content) < length:
        raise DataError(f"{path} is damaged: it ends in the middle of a file")
    return zlib.decompress(content[4:]) if flags & _ZLIB else content
