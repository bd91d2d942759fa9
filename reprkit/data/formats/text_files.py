"""Lines of text files, mapped: only where each line lies is kept in memory."""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.corrupt_files import CorruptFiles, find_files
from reprkit.errors import DataError

_OPEN = 64  # files that are mapped at the same time
_MARK = b"\xef\xbb\xbf"  # a byte-order mark, which some editors put first


class TextFiles:
    """The lines of one file, or of all files of some suffixes below a folder, in the order of their paths.

    Line ends (LF or CRLF) and a byte-order mark are cut off, and lines of white space only do not count.
    16 bytes a line are kept in memory; a line itself is read when it is asked for.

    Args:
        path: a file (any suffix), or a folder.
        suffixes: which files of a folder, in lower case with their dot.
        what: what the files are, in the plural, for messages.

    Raises:
        DataError: no such file, or a folder without files of these suffixes.
    """

    def __init__(self, path: str | os.PathLike[str], suffixes: Collection[str], what: str) -> None:
        self.path = Path(path).expanduser()
        if not self.path.exists():
            raise DataError(f"no file {str(self.path)!r} (looked in {Path.cwd()})")
        self.names = [self.path.name]
        self._folder = self.path.parent
        if self.path.is_dir():
            self._folder, self.names = find_files(self.path, suffixes, what)
        self._places = torch.empty((0, 2), dtype=torch.int64)
        self._ends, self._sizes = np.zeros(0, np.int64), list[int]()
        self._maps: dict[int, mmap.mmap] = {}

    def index(self, check: Callable[[bytes], Any], corrupt: CorruptFiles) -> None:
        """Look at every line once; those of which ``check`` raises are left out, and named ``file:line``.

        Raises:
            DataError: a file cannot be read, holds no lines, or too many are left out.
        """
        places, ends = array("q"), []
        for name in self.names:
            for number, begin, line in self._lines(name):
                try:
                    check(line)
                except MemoryError:
                    raise
                except Exception as error:  # json and codecs raise many; it is kept, counted and named
                    why = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
                    corrupt.add(f"{name}:{number}", why[:200])
                else:
                    places.extend((begin, begin + len(line)))
            ends.append(len(places) // 2)
            self._sizes.append((self._folder / name).stat().st_size)
        if places:
            self._places = torch.frombuffer(places, dtype=torch.int64).reshape(-1, 2)
        self._ends = np.array(ends)
        total = len(self) + corrupt.count
        if not total:
            raise DataError(f"{str(self.path)!r} holds no lines besides empty ones")
        corrupt.check_share(total, str(self.path))

    def head(self, most: int) -> list[bytes]:
        """The first lines, before they are looked at."""
        found: list[bytes] = []
        for name in self.names:
            for _, _, line in self._lines(name):
                found.append(line)
                if len(found) == most:
                    return found
        return found

    def __len__(self) -> int:
        """How many lines were kept."""
        return len(self._places)

    def __getitem__(self, index: int) -> bytes:
        """One line; a negative index counts from the end.

        Raises:
            DataError: its file is not what it was.
        """
        place = range(len(self))[index]
        start, stop = self._places[place].tolist()
        return self._mapped(int(np.searchsorted(self._ends, place, side="right")))[start:stop]

    @property
    def lengths(self) -> torch.Tensor:
        """Bytes of each line (n,), int64."""
        return self._places[:, 1] - self._places[:, 0]

    def sizes(self) -> Tensor:
        """Bytes of every line (n,), int64."""
        return self._places[:, 1] - self._places[:, 0]

    @property
    def name(self) -> str:
        """The folder's name, or the file's without its suffix."""
        whole = self.path.resolve()
        return whole.name if whole.is_dir() else whole.stem

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process, which maps the files itself."""
        return {**self.__dict__, "_maps": {}}

    def _lines(self, name: str) -> Iterator[tuple[int, int, bytes]]:
        """(number from 1, first byte, content) of the lines that are not blank."""
        start = 0
        try:
            with (self._folder / name).open("rb") as opened:
                for number, line in enumerate(opened, 1):
                    skip = len(_MARK) if number == 1 and line.startswith(_MARK) else 0
                    content = line[skip:].rstrip(b"\r\n")
                    if content.strip():
                        yield number, start + skip, content
                    start += len(line)
        except OSError as error:
            raise DataError(f"{str(self._folder / name)!r} cannot be read: {error}") from error

    def _mapped(self, file: int) -> mmap.mmap:
        if file not in self._maps:
            path = self._folder / self.names[file]
            if len(self._maps) >= _OPEN:
                self._maps.pop(next(iter(self._maps))).close()
            try:
                with path.open("rb") as opened:
                    made = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{str(path)!r} could be read when the data set was made, and now cannot: {error}"
                ) from error
            if len(made) != self._sizes[file]:
                raise DataError(f"{str(path)!r} has changed since the data set was made; make it again")
            self._maps[file] = made
        return self._maps[file]


def byte_tokens(text: str | bytes, length: int | None = None) -> torch.Tensor:
    """UTF-8 bytes of a text as symbols (t,), int64 from 0 to 255; at most ``length`` of them."""
    raw = text.encode("utf-8") if isinstance(text, str) else text
    return torch.frombuffer(bytearray(raw[:length]), dtype=torch.uint8).long()
