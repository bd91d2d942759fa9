"""A file of JSON lines that a killed process, or a full disk, leaves with whole lines only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reprkit.errors import TrainingError


class JsonLinesFile:
    """The file at ``path``; lines that could not be written wait until there is room again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unwritten: list[str] = []

    def begin(self, size: int | None) -> None:
        """Make the file, or cut it back to ``size`` bytes.

        Raises:
            TrainingError: it is shorter than that.
        """
        if size is not None and self.path.exists():
            if self.path.stat().st_size < size:
                raise TrainingError(
                    f"{self.path} is shorter than when the state was saved: it was changed, so it cannot be continued"
                )
            os.truncate(self.path, size)
        self.path.touch()

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line.

        Raises:
            OSError: it was not written; it will be with the next one.
        """
        self._unwritten.append(json.dumps(line) + "\n")
        self._write()

    def size(self) -> int:
        """Bytes of the file, flushed to the disk.

        Raises:
            OSError: lines that wait still cannot be written.
        """
        self._write()
        with self.path.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def _write(self) -> None:
        """Append what waits; what a full disk took only a part of is taken back."""
        if not self._unwritten:
            return
        data = "".join(self._unwritten).encode()
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            before, written = os.fstat(handle).st_size, 0
            try:
                while written < len(data):
                    written += os.write(handle, data[written:])
            except OSError:
                if written:
                    os.ftruncate(handle, before)
                raise
        finally:
            os.close(handle)
        self._unwritten.clear()
