"""Lines of text files as sequences of bytes or characters."""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.text_encoding import wrong_encoding
from reprkit.data.formats.text_files import BYTES_FORM, TextFiles, byte_tokens, read_lines
from reprkit.data.identity import content_hash, hash_names
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Share
from reprkit.registry.references import Reference, parse

Units = Literal["bytes", "characters"]
SUFFIXES = frozenset((".txt",))


class Lines(Dataset):
    """Lines of a text file, or of all .txt files below a folder: each line is an example, without a tokenizer.

    Field: ``x`` tokens (t,) of varying length.  With ``units="bytes"`` they are the line's UTF-8 bytes (vocab
    256); with "characters" they are indices into ``alphabet``, the sorted characters of the text.  Line ends
    (LF, CRLF or CR) are removed and blank lines are ignored.  Files are not kept in memory: only the position
    of each line and a hash of it are (24 bytes per line).  ``split`` divides by this hash: equal lines stay in one part, and a
    line stays in its part when others are added.

    A file with a byte-order mark has the encoding that it names (UTF-8, UTF-16, UTF-32), any other ``encoding``.  A line that is
    not of its encoding is skipped, counted and named; a file with NUL characters is not read.  ``facts`` says which files of a
    folder were ignored.  Links are followed.

    ``form`` of the field says what its tokens are, ``lines(units='bytes')``, so that a model reads texts and text files.

    Args:
        path: a file (any suffix), or a folder of .txt files at any depth.
        units: "bytes" or "characters".
        length: maximum number of tokens of a line; the rest is cut off.  None: all.
        encoding: of files without a byte-order mark, such as "latin-1"; UTF-8 by default.
        max_corrupt: largest share of unreadable lines (and of files) that may be skipped; more is an error.

    Raises:
        DataError: no such file, no lines in it, or too many lines that are not of their encoding.
    """

    raw_suffixes: ClassVar[frozenset[str]] = SUFFIXES

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
        self._hashes = array("q")
        self._files = TextFiles(path, SUFFIXES, "text files", encoding)

        def check(line: bytes) -> None:
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise wrong_encoding(error) from error
            if units == "characters":
                seen.update(text)
                counts.append(len(text))
            self._hashes.append(content_hash(line))

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
        form = BYTES_FORM
        if units == "characters":
            form = str(Reference("lines", {"units": "characters", "alphabet": self.alphabet}))
        self.signature = Signature({"x": Field(kind="tokens", shape=(None,), vocab=vocab, form=form)})

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

    def identities(self) -> list[str]:
        """Return a hash of each line."""
        return hash_names(self._hashes)

    def text(self, index: int) -> str:
        """Return a line's whole text."""
        return self._files[index].decode("utf-8")

    @classmethod
    def read_raw(cls, value: str | Path, field: Field) -> list[Tensor]:
        """Return the tokens of a text, or of each line of a text file that is not blank.

        Raises:
            DataError: a line that is not of its encoding, a character that is not in the alphabet, or no text.
        """
        settings = parse(field.form or BYTES_FORM).arguments
        texts = read_lines(value) if isinstance(value, Path) else [value]
        if settings.get("units") != "characters":
            return [byte_tokens(_require_text(text)) for text in texts]
        ids = {character: index for index, character in enumerate(str(settings.get("alphabet", "")))}
        examples = []
        for text in texts:
            unknown = sorted(set(_require_text(text)) - ids.keys())
            if unknown:
                raise DataError(
                    f"the model's alphabet of {len(ids)} characters does not have {', '.join(map(repr, unknown[:10]))}"
                )
            examples.append(torch.tensor([ids[character] for character in text]))
        return examples

    def raw(self, index: int) -> str | None:
        """Return the line's text; None where it was cut off."""
        text = self.text(index)
        size = len(text) if self._units == "characters" else len(text.encode())
        return text if size == int(self._lengths[index]) else None

    @property
    def name(self) -> str:
        """Name of the file or folder."""
        return self._files.name


def _require_text(text: str) -> str:
    if not text:
        raise DataError("an empty text is no example")
    return text
