"""The user's own text files: their lines, or one long text in windows."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data import Subset
from reprkit.data.base import split_settings, split_sizes
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.text_encoding import decode_text, wrong_encoding
from reprkit.data.formats.text_files import TextFiles, read_lines
from reprkit.data.identity import content_hash, hash_names
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Share
from reprkit_text.data.records import normalize_text, strip_text
from reprkit_text.data.symbol_rows import SymbolRows
from reprkit_text.data.symbols import Symbols, check_symbols
from reprkit_text.vocabulary import Vocabulary, vocabulary

SUFFIXES = frozenset((".txt", ".text", ".md", ".rst"))


class TextData(SymbolRows):
    """A text file, or all .txt, .text, .md and .rst files below a folder: by lines, or as one long text in windows.

    - ``by="lines"``: field ``x`` tokens (t,) of varying length, one line each.  ``split`` divides by a hash of each
      line: equal lines stay in one part, and a line stays in its part when others are added.
    - ``by="windows"``: field ``x`` tokens (length,): the lines of all files in the order of their paths, an end symbol after
      each file, cut into windows; what remains at the end is left out.  ``split`` takes the beginning for training and the end
      for testing, whatever the seed, so that no page is in two parts.  For books and language models.

    ``form`` of the field is the whole vocabulary.  A byte-order mark says which encoding a file has, else it is ``encoding``; line
    ends become LF.  Lines without printable characters are left out; one that is not of its encoding is counted and named.
    ``facts`` says which files of a folder were ignored.  Files are read twice; symbols take four bytes each in memory.

    Args:
        path: a file (any suffix), or a folder.
        tokenizer: "byte-pair(vocab=4000)", "characters", or the path of a Hugging Face ``tokenizer.json``; trained on this text
            (all parts of it).
        by: "lines" or "windows".
        length: largest number of symbols of a line, the rest is cut off and counted (``cut_count``); or the symbols of a window.
        encoding: of files without a byte-order mark, such as "latin-1"; UTF-8 by default.
        max_corrupt: largest share of lines (and of files) that are not of their encoding; more raise an error.

    Raises:
        DataError: no such file, no text in it, less than a window, or too many lines that are not of their encoding.
        PartArgumentError: an argument out of its range.
    """

    raw_suffixes: ClassVar[frozenset[str]] = SUFFIXES

    def __init__(
        self,
        path: str | os.PathLike[str],
        tokenizer: str | Vocabulary = "byte-pair(vocab=4000)",
        *,
        by: Literal["lines", "windows"] = "lines",
        length: Count = 256,
        encoding: str | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        skips, self._by, self._length = CorruptFiles("lines", max_corrupt), by, length
        self._files = TextFiles(path, SUFFIXES, "text files", encoding)
        self._symbols, self._group, first = (self._read_lines if by == "lines" else self._read_windows)(
            skips, tokenizer, length
        )
        self.facts: dict[str, Any] = {
            **skips.facts(),
            **self._files.facts(),
            "tokenizer": self.vocabulary.source,
            **check_symbols(self._symbols, self.vocabulary, self.name, first),
        }
        field = Field(
            kind="tokens",
            shape=(None if by == "lines" else length,),
            vocab=self.vocabulary.size,
            form=self.vocabulary.form,
        )
        self.signature = Signature({"x": field})

    def text(self, index: int) -> str:
        """Return the whole line, or the decoded window."""
        index = range(len(self))[index]
        if self._by == "lines":
            return self._files[index].decode()
        return self.vocabulary.decode(self._symbols[index])

    def identities(self) -> list[str] | None:
        """Return a hash of each line; None for windows."""
        return hash_names(self._group.tolist()) if self._by == "lines" else None

    @classmethod
    def read_raw(cls, value: str | Path, field: Field) -> list[Tensor]:
        """Return the symbols of a text, or of each line of a file that is not blank, by the vocabulary that is the field's form.

        For a field of one length, the symbols of the whole text or file, with the end symbol, in windows of that length; the last
        one ends with the text, and overlaps the one before it.

        Raises:
            DataError: a text or file that cannot be encoded, has no symbols, or less than a window.
        """
        if field.form is None:
            raise DataError("the field names no vocabulary (Field.form)")
        words, window = vocabulary(field.form), field.shape[0]
        if window is None:
            texts = read_lines(value) if isinstance(value, Path) else [value]
            rows = [torch.tensor(ids) for ids in words.encode_all(texts)]
            if not all(len(row) for row in rows):
                raise DataError("a text without symbols is no example")
            return rows
        if isinstance(value, Path) and not value.is_file():
            raise DataError(f"no file {str(value)!r}")
        whole = decode_text(value.read_bytes()) if isinstance(value, Path) else value
        end = [] if words.end is None or words.marks_count else [words.end]
        symbols = torch.tensor([*words.encode(whole), *end])
        if len(symbols) < window:
            raise DataError(f"it has {len(symbols)} symbols, and the model reads windows of {window}")
        starts = list(range(0, len(symbols) - window + 1, window))
        if starts[-1] + window < len(symbols):
            starts.append(len(symbols) - window)
        return [symbols[start : start + window] for start in starts]

    def raw(self, index: int) -> str | Path | None:
        """Return the line, or None where it may be cut; the file of a window, where there is only one."""
        index = range(len(self))[index]
        if self._by == "lines":
            return self.text(index) if int(self._symbols.lengths[index]) < self._length else None
        return None if self._files.path.is_dir() else self._files.path

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Dataset, ...]:
        """Split into train and test, or train, valid and test: lines by their hash, windows from beginning to end.

        The test part does not depend on ``valid``.

        Raises:
            DataError: shares out of range, or too few examples, so that a part would be empty.
        """
        shares = (valid, test_share, valid_share)
        if self._by == "lines":
            return super().split(seed, valid=valid, test_share=test_share, valid_share=valid_share)
        size = len(self)
        test, valid_count = split_sizes(size, *shares, what="windows")
        sizes = {"train": size - test - valid_count, "valid": valid_count, "test": test}
        pieces = torch.arange(size).split(list(sizes.values()))
        parts = {name: piece for name, piece in zip(sizes, pieces, strict=True) if valid or name != "valid"}
        subsets = tuple(Subset(self, indices, part=name) for name, indices in parts.items())
        for subset in subsets:
            subset.origin.update(split_settings(seed, *shares))
        return subsets

    @property
    def name(self) -> str:
        """The file's or folder's name."""
        return self._files.name

    def _read_lines(
        self, skips: CorruptFiles, tokenizer: str | Vocabulary, length: int
    ) -> tuple[Symbols, Tensor, str]:
        """Return the symbols of the lines, a hash of each line, and the first one."""
        groups = array("q")
        self._files.index(lambda line: groups.append(line_hash(line)), skips)

        def lines() -> Iterator[str]:
            return (self._files[i].decode() for i in range(len(self._files)))

        self.vocabulary = vocabulary(tokenizer, lines)
        return Symbols(lines(), self.vocabulary, length), torch.tensor(groups), next(lines())

    def _read_windows(
        self, skips: CorruptFiles, tokenizer: str | Vocabulary, length: int
    ) -> tuple[Symbols, Tensor, str]:
        """Return the symbols of the windows, their numbers, and the first file."""
        texts = self._files.read_all(skips)
        if not texts:
            raise DataError(f"{str(self._files.path)!r} holds no text")
        self.vocabulary = vocabulary(tokenizer, texts)
        whole_texts = Symbols(texts, self.vocabulary, None)
        end = [] if self.vocabulary.end is None or self.vocabulary.marks_count else [self.vocabulary.end]
        ends = torch.tensor(end, dtype=torch.int32)
        pieces = [piece for i in range(len(texts)) for piece in (whole_texts[i].int(), ends)]
        windows = whole_texts.windows(torch.cat(pieces), length)
        if not len(windows):
            raise DataError(
                f"{self.name} has {len(torch.cat(pieces)):,} symbols, less than a window of length={length}"
            )
        return windows, torch.arange(len(windows)), texts[0]


def line_hash(line: bytes) -> int:
    """Hash a line, so that lines of equal text have one number.

    Raises:
        DataError: it is not valid UTF-8, or holds no printable characters.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise wrong_encoding(error) from error
    if not strip_text(text):
        raise DataError("it has no printable characters")
    return content_hash(normalize_text(text).encode())
