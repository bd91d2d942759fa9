"""Lines of text files: only the position of each line is kept in memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.corrupt_files import CorruptFiles, find_files
from reprkit.data.formats.positional_file import PositionalFile
from reprkit.data.regular_files import check_regular
from reprkit.errors import DataError

_MAX_OPEN = 64  # files that are open at the same time
_BOM = b"\xef\xbb\xbf"  # byte-order mark, which some editors write first


class TextFiles:
    """Lines of one file, or of all files with given suffixes below a folder, in the order of their paths.

    Line ends (LF or CRLF) and a byte-order mark are removed, and blank lines are ignored.  16 bytes per line
    are kept in memory; a line itself is read on access.

    Args:
        path: a file (any suffix), or a folder.
        suffixes: suffixes of the files in a folder, in lower case with their dot.
        what: name of the files in the plural, for messages.

    Raises:
        DataError: no such file, or a folder without files of these suffixes.
    """

    def __init__(self, path: str | os.PathLike[str], suffixes: Collection[str], what: str) -> None:
        self.path = check_regular(Path(path).expanduser())
        if not self.path.exists():
            raise DataError(f"no file {str(self.path)!r} (looked in {Path.cwd()})")
        self.names = [self.path.name]
        self._folder = self.path.parent
        if self.path.is_dir():
            self._folder, self.names = find_files(self.path, suffixes, what)
        self._spans = torch.empty((0, 2), dtype=torch.int64)
        self._ends, self._sizes = np.zeros(0, np.int64), list[int]()
        self._open: dict[int, PositionalFile] = {}

    def index(self, check: Callable[[bytes], Any], corrupt: CorruptFiles) -> None:
        """Index all lines; those for which ``check`` raises are skipped, and recorded as ``file:line``.

        Raises:
            DataError: a file cannot be read, holds no lines, or too many lines are skipped.
        """
        spans, ends = array("q"), []
        for name in self.names:
            for number, begin, line in self._lines(name):
                try:
                    check(line)
                except MemoryError:
                    raise
                except Exception as error:  # json and codecs raise many exceptions
                    reason = (
                        str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
                    )
                    corrupt.add(f"{name}:{number}", reason[:200])
                else:
                    spans.extend((begin, begin + len(line)))
            ends.append(len(spans) // 2)
            self._sizes.append((self._folder / name).stat().st_size)
        if spans:
            self._spans = torch.frombuffer(spans, dtype=torch.int64).reshape(-1, 2)
        self._ends = np.array(ends)
        total = len(self) + corrupt.count
        if not total:
            raise DataError(f"{str(self.path)!r} holds only blank lines")
        corrupt.check_share(total, str(self.path))

    def head(self, count: int) -> list[bytes]:
        """Return the first ``count`` lines, without checking them."""
        lines: list[bytes] = []
        for name in self.names:
            for _, _, line in self._lines(name):
                lines.append(line)
                if len(lines) == count:
                    return lines
        return lines

    def __len__(self) -> int:
        """Return the number of lines that were not skipped."""
        return len(self._spans)

    def __getitem__(self, index: int) -> bytes:
        """Return one line; a negative index counts from the end.

        Raises:
            DataError: its file was removed or has changed.
        """
        position = range(len(self))[index]
        start, stop = self._spans[position].tolist()
        return self._file(int(np.searchsorted(self._ends, position, side="right"))).read(start, stop)

    @property
    def lengths(self) -> Tensor:
        """Number of bytes of each line (n,), int64."""
        return self._spans[:, 1] - self._spans[:, 0]

    @property
    def name(self) -> str:
        """Name of the folder, or of the file without its suffix."""
        path = self.path.resolve()
        return path.name if path.is_dir() else path.stem

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker process, which opens the files itself."""
        return {**self.__dict__, "_open": {}}

    def _lines(self, name: str) -> Iterator[tuple[int, int, bytes]]:
        """Yield (number from 1, first byte, content) of each line that is not blank."""
        start = 0
        try:
            with (self._folder / name).open("rb") as opened:
                for number, line in enumerate(opened, 1):
                    skip = len(_BOM) if number == 1 and line.startswith(_BOM) else 0
                    content = line[skip:].rstrip(b"\r\n")
                    if content.strip():
                        yield number, start + skip, content
                    start += len(line)
        except OSError as error:
            raise DataError(f"{str(self._folder / name)!r} cannot be read: {error}") from error

    def _file(self, number: int) -> PositionalFile:
        if number not in self._open:
            if len(self._open) >= _MAX_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[number] = PositionalFile(self._folder / self.names[number], self._sizes[number])
        return self._open[number]


def byte_tokens(text: str | bytes, length: int | None = None) -> Tensor:
    """Convert a text to its UTF-8 bytes as symbols (t,), int64 from 0 to 255; at most ``length`` of them."""
    raw = text.encode("utf-8") if isinstance(text, str) else text
    return torch.frombuffer(bytearray(raw[:length]), dtype=torch.uint8).long()
