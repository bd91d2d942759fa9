"""Read an ``.npz`` file that may be damaged or hostile: plain arrays whose sizes are those of the file, never a pickle."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

_MAX_BYTES = 1 << 28  # of all arrays together
_KINDS = "biufU"


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of real numbers, flags and texts of a file: at most 256 MiB.

    Raises:
        ValueError: the file is damaged, larger, or holds other arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > _MAX_BYTES:
                raise ValueError(f"its arrays have {size:,} bytes, and at most {_MAX_BYTES:,} are read")
            return {
                member.filename.removesuffix(".npy"): _read_array(archive, member)
                for member in archive.infolist()
            }
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, OverflowError,
    ) as error:  # fmt: skip
        raise ValueError(f"{type(error).__name__} {error}") from error


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    name = ascii(member.filename[:80])
    with archive.open(member) as file:
        shape, fortran, dtype = _read_header(file, name)
        expected = file.tell() + math.prod(shape) * dtype.itemsize
        if dtype.kind not in _KINDS or min(shape, default=0) < 0 or expected != member.file_size:
            raise ValueError(f"array {name} has another size or type than its header says")
        values = np.frombuffer(file.read(), dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        major, _ = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        header: tuple[tuple[int, ...], bool, np.dtype] = read(file)
    except (
        ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError,
    ) as error:  # fmt: skip
        raise ValueError(f"array {name} has no readable header") from error
    return header
