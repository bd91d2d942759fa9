"""A JSON Lines file that contains only complete lines, even after the process is killed or the disk is full."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reprkit.errors import TrainingError
from reprkit.utils.atomic_files import write_text


class JsonLinesFile:
    """The JSON Lines file at ``path``; lines that could not be written are buffered and written later."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unwritten: list[str] = []

    def begin(self, size: int | None) -> None:
        """Create the file, or truncate it to ``size`` bytes.

        Raises:
            TrainingError: the file is shorter than ``size``.
        """
        if size is not None and self.path.exists():
            if self.path.stat().st_size < size:
                raise TrainingError(
                    f"{self.path} is shorter than when the state was saved: it was changed, so the run cannot be resumed"
                )
            os.truncate(self.path, size)
        self.path.touch()

    def drop(self, unwanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Drop the lines for which ``unwanted`` is true, and those that are damaged; the file is replaced atomically."""
        if not self.path.exists():
            return
        kept = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and not unwanted(line):
                kept.append(text + "\n")
        write_text(self.path, "".join(kept))

    def append(self, line: Mapping[str, Any]) -> None:
        """Append a line.

        Raises:
            OSError: the line was not written; it is written with the next one.
        """
        self._unwritten.append(json.dumps(line) + "\n")
        self._write()

    def size(self) -> int:
        """Return the size of the file in bytes, after flushing it to disk.

        Raises:
            OSError: buffered lines still cannot be written.
        """
        self._write()
        with self.path.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()

    def _write(self) -> None:
        """Append the buffered lines; a partial write on a full disk is truncated."""
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
