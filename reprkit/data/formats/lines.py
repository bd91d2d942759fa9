"""Lines of text files as bytes or characters."""

from __future__ import annotations

import os
from array import array
from typing import Any, Literal

import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.text_files import TextFiles, byte_tokens
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Share

Units = Literal["bytes", "characters"]
SUFFIXES = frozenset((".txt",))


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
        units: Units = "bytes",
        *,
        length: Count | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        self._units, self._length = units, length
        corrupt, seen, counts = CorruptFiles("lines", max_corrupt), set[str](), array("q")
        self._files = TextFiles(path, SUFFIXES, "text files")

        def check(line: bytes) -> None:
            try:
                read = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"no valid UTF-8: {error.reason} at byte {error.start}") from error
            if units == "characters":
                seen.update(read)
                counts.append(len(read))

        self._files.index(check, corrupt)
        spans = torch.tensor(counts) if units == "characters" else self._files.lengths
        self._lengths = spans if length is None else spans.clamp(max=length)
        self.facts: dict[str, Any] = corrupt.facts()
        self.alphabet = "".join(sorted(seen))
        vocab = 256
        if units == "characters":
            self.facts["alphabet"] = self.alphabet
            vocab = len(self.alphabet)
            self._codes = {each: place for place, each in enumerate(self.alphabet)}
        self.signature = Signature({"x": Field(kind="tokens", shape=(None,), vocab=vocab)})

    def __len__(self) -> int:
        """How many lines."""
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One line; a negative index counts from the end."""
        if self._units == "bytes":
            return {"x": byte_tokens(self._files[index], self._length)}
        return {"x": torch.tensor([self._codes[each] for each in self.text(index)[: self._length]])}

    def lengths(self) -> dict[str, Tensor]:
        """Bytes or characters of every line (n,)."""
        return {"x": self._lengths}

    def text(self, index: int) -> str:
        """The line itself, whole."""
        return self._files[index].decode("utf-8")

    @property
    def name(self) -> str:
        """The file's or folder's name."""
        return self._files.name
