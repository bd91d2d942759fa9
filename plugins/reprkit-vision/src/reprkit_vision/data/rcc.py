"""Reads Qt's binary resource archives (.rcc), in which Debian's gcompris-qt-data has its photographs."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from reprkit.errors import DataError

_FOLDER, _ZLIB, _OTHER = 2, 1, 4  # flags of an entry; the last stands for Zstandard


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Each file of an archive: its path inside, and its content.

    Numbers are big-endian.  After ``qres``: version, and the offsets of tree, data and names.  A tree entry
    has the offset of its name (u32), flags (u16), and for a folder the count and the number of its first child
    (u32, u32), for a file at byte 10 the offset of its data; 14 bytes, from version 2 on 8 more (a time).
    Data: length (u32), bytes; compressed ones begin with their full size (u32).  Name: length (u16), a hash
    (u32), UTF-16.

    Raises:
        DataError: the file is no such archive, is damaged, or is compressed in another way.
    """
    raw = path.read_bytes()
    try:
        if raw[:4] != b"qres":
            raise DataError(f"{path} is not a Qt resource archive (.rcc)")
        version, tree, data, names = struct.unpack_from(">4I", raw, 4)
        size = 22 if version >= 2 else 14
        waiting = [(0, "")]
        while waiting:
            number, parent = waiting.pop()
            at = tree + number * size
            name_at, flags = struct.unpack_from(">IH", raw, at)
            (length,) = struct.unpack_from(">H", raw, names + name_at)
            start = names + name_at + 6
            if start + 2 * length > len(raw):
                raise DataError(f"{path} is damaged: it ends in the middle of a name")
            name = raw[start : start + 2 * length].decode("utf-16-be") if number else ""
            whole = f"{parent}/{name}".lstrip("/")
            if flags & _FOLDER:
                count, first = struct.unpack_from(">II", raw, at + 6)
                if number >= first or first + count > len(raw) // size:
                    raise DataError(f"{path} is damaged: its folder {whole!r} leads nowhere")
                waiting += [(first + each, whole) for each in range(count)]
            else:
                (place,) = struct.unpack_from(">I", raw, at + 10)
                yield whole, _content(raw, data + place, flags, path)
    except (struct.error, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}") from error


def _content(raw: bytes, at: int, flags: int, path: Path) -> bytes:
    if flags & _OTHER:
        raise DataError(f"{path} is compressed with Zstandard, which is not read here")
    (length,) = struct.unpack_from(">I", raw, at)
    content = raw[at + 4 : at + 4 + length]
    if len(content) < length:
        raise DataError(f"{path} is damaged: it ends in the middle of a file")
    return zlib.decompress(content[4:]) if flags & _ZLIB else content
