"""Lines of text files as bytes or characters."""

from __future__ import annotations

import mmap
import os
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.signature import Field, Signature
from reprkit.data.vetting import Skips, files_below
from reprkit.errors import DataError, nearest

UNITS = ("bytes", "characters")


class Lines(Dataset):
    """The lines of a text file, or of all .txt files below a folder, one an example, without a tokenizer.

    Field: ``x`` tokens (t,) of varying length.  With ``units="bytes"`` they are the line's UTF-8 bytes (vocab
    256); with "characters" each is a place in ``alphabet``, all characters of the text, sorted.  Line ends
    (LF or CRLF) are cut off and lines of white space only are not examples.  Files are mapped, not read: only
    where each line lies is kept in memory (16 bytes a line).

    A line that is no valid UTF-8 is left out, counted and named.

    Args:
        path: a file (any suffix), or a folder of .txt files at any depth.
        units: "bytes" or "characters".
        length: at most this many tokens of a line; the rest of it is cut off.  None: all.
        max_corrupt: the largest share of unreadable lines that is left out; more is an error.

    Raises:
        DataError: no such file, no lines in it, or too many that are no UTF-8.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        units: str = "bytes",
        *,
        length: int | None = None,
        max_corrupt: float = 0.01,
    ) -> None:
        if units not in UNITS:
            raise DataError(f"no units {units!r}.{nearest(units, UNITS)}\n  known: {', '.join(UNITS)}")
        if length is not None and length < 1:
            raise DataError(f"length is a number of tokens from 1, or None, not {length}")
        self._path, self._units, self._length = Path(path).expanduser(), units, length
        if not self._path.exists():
            raise DataError(f"no file {str(self._path)!r} (looked in {Path.cwd()})")
        self._files = [self._path]
        if self._path.is_dir():
            folder, names = files_below(self._path, {".txt"}, "text files")
            self._files = [folder / name for name in names]
        self._maps: dict[int, mmap.mmap] = {}
        skips, seen = Skips("lines", max_corrupt), set[str]()
        places = array("q")
        ends = []
        for file in self._files:
            _index(file, places, skips, seen if units == "characters" else None)
            ends.append(len(places) // 2)
        self._places = (
            torch.frombuffer(places, dtype=torch.int64).reshape(-1, 2) if places else torch.empty(0, 2)
        )
        self._ends = np.array(ends)
        total = len(self._places) + skips.count
        skips.judge(total, str(self._path))
        if not total:
            raise DataError(f"{str(self._path)!r} holds no lines besides empty ones")
        self.facts: dict[str, Any] = skips.facts()
        self.alphabet = "".join(sorted(seen))
        vocab = 256
        if units == "characters":
            self.facts["alphabet"] = self.alphabet
            vocab = len(self.alphabet)
            self._codes = {each: place for place, each in enumerate(self.alphabet)}
        self.signature = Signature({"x": Field(kind="tokens", shape=(None,), vocab=vocab)})

    def __len__(self) -> int:
        """How many lines."""
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One line; a negative index counts from the end."""
        place = range(len(self))[index]
        file = int(np.searchsorted(self._ends, place, side="right"))
        start, stop = self._places[place].tolist()
        raw = self._mapped(file)[start:stop]
        if self._units == "bytes":
            return {"x": torch.frombuffer(bytearray(raw[: self._length]), dtype=torch.uint8).long()}
        text = raw.decode("utf-8")[: self._length]
        return {"x": torch.tensor([self._codes[each] for each in text])}

    def text(self, index: int) -> str:
        """The line itself, whole."""
        place = range(len(self))[index]
        start, stop = self._places[place].tolist()
        return self._mapped(int(np.searchsorted(self._ends, place, side="right")))[start:stop].decode("utf-8")

    @property
    def name(self) -> str:
        """The file's or folder's name."""
        return self._path.resolve().stem

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process, which maps the files itself."""
        return {**self.__dict__, "_maps": {}}

    def _mapped(self, file: int) -> mmap.mmap:
        if file not in self._maps:
            with self._files[file].open("rb") as opened:
                self._maps[file] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[file]


def _index(file: Path, places: array[int], skips: Skips, seen: set[str] | None) -> None:
    """Add where each line of the file starts and stops, and its characters to ``seen``."""
    start = 0
    try:
        with file.open("rb") as opened:
            for number, line in enumerate(opened, 1):
                begin = start + (3 if number == 1 and line.startswith(b"\xef\xbb\xbf") else 0)
                start += len(line)
                text = line[len(line) - (start - begin) :].rstrip(b"\r\n")
                if not text.strip():
                    continue
                try:
                    read = text.decode("utf-8")
                except UnicodeDecodeError as error:
                    skips.add(f"{file.name}, line {number}", f"no valid UTF-8: {error.reason}")
                    continue
                places.extend((begin, begin + len(text)))
                if seen is not None:
                    seen.update(read)
    except OSError as error:
        raise DataError(f"{str(file)!r} cannot be read: {error}") from error
