"""Read parts of a file by their position, without mapping it.

A mapped file that is cut short while it is read ends the process (SIGBUS), and no check beforehand excludes that.  A read of a file
that is too short is an error like any other.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprkit.errors import DataError


class PositionalFile:
    """A file that is opened at its first read, in each process that gets it.

    Args:
        path: the file.
        size: its size in bytes when the data set was constructed.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self._size = path, size
        self._handle: int | None = None
        self._lock = threading.Lock()

    def open(self) -> int:
        """Return a file descriptor.

        Raises:
            DataError: the file was removed, or has another size.
        """
        if self._handle is None:
            try:
                handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except OSError as error:
                raise DataError(
                    f"{str(self.path)!r} was readable when the data set was constructed, and no longer is: {error}"
                ) from error
            if os.fstat(handle).st_size != self._size:
                os.close(handle)
                raise self._changed()
            self._handle = handle
        return self._handle

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` up to ``stop``.

        Raises:
            DataError: the file was removed, cannot be read, or was cut short.
        """
        buffer = bytearray(stop - start)
        self.read_into(memoryview(buffer), start)
        return bytes(buffer)

    def read_into(self, view: memoryview, start: int) -> None:
        """Fill a buffer of bytes from ``start`` on.

        Raises:
            DataError: the file was removed, cannot be read, or was cut short.
        """
        handle, done = self.open(), 0
        while done < len(view):
            try:
                count = self._read_some(handle, view[done:], start + done)
            except OSError as error:
                raise DataError(f"{str(self.path)!r} cannot be read: {error}") from error
            if not count:
                raise self._changed()
            done += count

    def check_size(self) -> None:
        """Raise DataError if the file was cut short since it was opened."""
        if os.fstat(self.open()).st_size < self._size:
            raise self._changed()

    def close(self, *, _close: Callable[[int], None] = os.close) -> None:
        """Close the file; the next read opens it again."""
        if self._handle is not None:
            _close(self._handle)  # bound above, because modules are gone when the interpreter ends
            self._handle = None

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for another process, which opens the file itself."""
        return {"path": self.path, "_size": self._size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"], state["_size"])  # type: ignore[misc]

    def _read_some(self, handle: int, view: memoryview, start: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(handle, [view], start)
        with self._lock:  # Windows has one position for all threads
            os.lseek(handle, start, os.SEEK_SET)
            part = os.read(handle, len(view))
        view[: len(part)] = part
        return len(part)

    def _changed(self) -> DataError:
        return DataError(
            f"{str(self.path)!r} has changed since the data set was constructed; construct it again"
        )


class RowFile:
    """Rows of one size in a file: the array of a .npy file.

    Args:
        path: the file.
        offset: of the first row, in bytes.
        shape: of one row.
        dtype: of the array.
    """

    def __init__(self, path: Path, offset: int, shape: Sequence[int], dtype: torch.dtype) -> None:
        self._row, self._dtype, self._offset = tuple(shape), dtype, offset
        self._bytes = math.prod(shape) * dtype.itemsize
        self._file = PositionalFile(path, path.stat().st_size)
        self._file.open()  # now, so that a file that replaces this one later is not read

    def read(self, indices: Tensor) -> Tensor:
        """Return the rows at ``indices`` (b,) as (b ...).

        Raises:
            DataError: the file was cut short.
        """
        buffer = bytearray(len(indices) * self._bytes)
        view = memoryview(buffer)
        for number, index in enumerate(indices.tolist()):
            part = view[number * self._bytes : (number + 1) * self._bytes]
            self._file.read_into(part, self._offset + index * self._bytes)
        if not buffer:
            return torch.empty((len(indices), *self._row), dtype=self._dtype)
        return torch.frombuffer(buffer, dtype=self._dtype).reshape(len(indices), *self._row)

    def check_size(self) -> None:
        """Raise DataError if the file was cut short."""
        self._file.check_size()
