"""Lines of text files as sequences of bytes or characters."""

from __future__ import annotations

import os
from array import array
from typing import Any, Literal

import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.text_encoding import wrong_encoding
from reprkit.data.formats.text_files import TextFiles, byte_tokens
from reprkit.data.signature import Field, Signature
from reprkit.registry.constraints import Count, Share

Units = Literal["bytes", "characters"]
SUFFIXES = frozenset((".txt",))


class Lines(Dataset):
    """Lines of a text file, or of all .txt files below a folder: each line is an example, without a tokenizer.

    Field: ``x`` tokens (t,) of varying length.  With ``units="bytes"`` they are the line's UTF-8 bytes (vocab
    256); with "characters" they are indices into ``alphabet``, the sorted characters of the text.  Line ends
    (LF or CRLF) are removed and blank lines are ignored.  Files are not kept in memory: only the position
    of each line is kept in memory (16 bytes per line).

    A file with a byte-order mark has the encoding that it names (UTF-8, UTF-16, UTF-32), any other ``encoding``.  A line that is
    not of its encoding is skipped, counted and named; a file with NUL characters is not read.  ``facts`` says which files of a
    folder were ignored.  Links are followed.

    Args:
        path: a file (any suffix), or a folder of .txt files at any depth.
        units: "bytes" or "characters".
        length: maximum number of tokens of a line; the rest is cut off.  None: all.
        encoding: of files without a byte-order mark, such as "latin-1"; UTF-8 by default.
        max_corrupt: largest share of unreadable lines (and of files) that may be skipped; more is an error.

    Raises:
        DataError: no such file, no lines in it, or too many lines that are not of their encoding.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        units: Units = "bytes",
        *,
        length: Count | None = None,
        encoding: str | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        self._units, self._length = units, length
        corrupt, seen, counts = CorruptFiles("lines", max_corrupt), set[str](), array("q")
        self._files = TextFiles(path, SUFFIXES, "text files", encoding)

        def check(line: bytes) -> None:
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise wrong_encoding(error) from error
            if units == "characters":
                seen.update(text)
                counts.append(len(text))

        self._files.index(check, corrupt)
        lengths = torch.tensor(counts) if units == "characters" else self._files.lengths
        self._lengths = lengths if length is None else lengths.clamp(max=length)
        self.facts: dict[str, Any] = {**corrupt.facts(), **self._files.facts()}
        self.alphabet = "".join(sorted(seen))
        vocab = 256
        if units == "characters":
            self.facts["alphabet"] = self.alphabet
            vocab = len(self.alphabet)
            self._ids = {character: index for index, character in enumerate(self.alphabet)}
        self.signature = Signature({"x": Field(kind="tokens", shape=(None,), vocab=vocab)})

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self._files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one line's tokens; a negative index counts from the end."""
        if self._units == "bytes":
            return {"x": byte_tokens(self._files[index], self._length)}
        return {"x": torch.tensor([self._ids[character] for character in self.text(index)[: self._length]])}

    def lengths(self) -> dict[str, Tensor]:
        """Return the number of bytes or characters of every line (n,)."""
        return {"x": self._lengths}

    def text(self, index: int) -> str:
        """Return a line's whole text."""
        return self._files[index].decode("utf-8")

    @property
    def name(self) -> str:
        """Name of the file or folder."""
        return self._files.name
