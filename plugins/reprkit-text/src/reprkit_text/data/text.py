"""Text files of one's own: their lines, or one long text in windows."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data import Subset
from reprkit.data.collation import to_index
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.text_files import TextFiles
from reprkit.errors import DataError
from reprkit.registry.constraints import Count, Share
from reprkit_text.data.division import counts, divided, origin
from reprkit_text.data.records import plain, written
from reprkit_text.data.symbols import Symbols, known
from reprkit_text.vocabulary import Vocabulary, vocabulary

SUFFIXES = frozenset((".txt", ".text", ".md", ".rst"))


class TextData(Dataset):
    """A text file, or all .txt, .text, .md and .rst files below a folder: by lines, or as one long text in windows.

    - ``by="lines"``: field ``x`` tokens (t,) of varying length, a line each.  ``split`` is random and keeps equal lines in one
      part.
    - ``by="windows"``: field ``x`` tokens (length,): the lines of all files one after another in the order of their paths, an end
      symbol behind each file, cut into windows; what is left at the end is no example.  ``split`` takes the beginning for
      training and the end for testing, whatever the seed: nothing of a page is in two parts.  For books and language models.

    ``form`` of the field is the whole vocabulary.  Lines without anything that could be printed are left out; one that is no
    valid UTF-8 is counted and named.  Files are read twice and mapped; four bytes a symbol are kept in memory.

    Args:
        path: a file (any suffix), or a folder.
        tokenizer: "byte-pair(vocab=4000)", "characters", or the path of a Hugging Face ``tokenizer.json``; trained on this text
            (all parts of it).
        by: "lines" or "windows".
        length: symbols of a line at most, the rest is cut off and counted (``cut_count``); or of a window.
        max_corrupt: the largest share of lines that are no UTF-8; more is an error.

    Raises:
        DataError: no such file, no text in it, less than a window, or too many lines that are no UTF-8.
        PartArgumentError: an argument out of its range.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tokenizer: str | Vocabulary = "byte-pair(vocab=4000)",
        *,
        by: Literal["lines", "windows"] = "lines",
        length: Count = 256,
        max_corrupt: Share = 0.01,
    ) -> None:
        skips, self._by = CorruptFiles("lines", max_corrupt), by
        self._files = TextFiles(path, SUFFIXES, "text files")
        self._symbols, self._group, first = (self._lines if by == "lines" else self._windows)(
            skips, tokenizer, length
        )
        self.facts: dict[str, Any] = {
            **skips.facts(),
            "tokenizer": self.vocabulary.made,
            **known(self._symbols, self.vocabulary, self.name, first),
        }
        field = Field(
            kind="tokens",
            shape=(None if by == "lines" else length,),
            vocab=self.vocabulary.size,
            form=self.vocabulary.form,
        )
        self.signature = Signature({"x": field})

    def __len__(self) -> int:
        """How many lines, or windows."""
        return len(self._symbols)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One line or window; a negative index counts from the end."""
        return {"x": self._symbols[range(len(self))[index]]}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """The examples of these indices (b,), in one look-up; lines are padded under ``x_mask``."""
        x, mask = self._symbols.padded(to_index(indices))
        return {"x": x, "x_mask": mask} if self._by == "lines" else {"x": x}

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Symbols of every line; windows have one length."""
        return {"x": self._symbols.lengths} if self._by == "lines" else {}

    def text(self, index: int) -> str:
        """The line itself, whole; or what the window's symbols say."""
        place = range(len(self))[index]
        if self._by == "lines":
            return self._files[place].decode()
        return self.vocabulary.decode(self._symbols[place])

    def split(
        self, seed: int = 0, *, valid: bool = False, test_share: float = 0.2, valid_share: float = 0.1
    ) -> tuple[Subset, ...]:
        """Train and test, or train, valid and test: at random by lines, from beginning to end by windows.

        The test part does not depend on ``valid``.

        Raises:
            DataError: shares out of range, or so few examples that a part would be empty.
        """
        shares = (valid, test_share, valid_share)
        if self._by == "lines":
            found = divided(self._group, seed, *shares)
        else:
            size = len(self)
            test, held = counts(size, size, *shares)
            sizes = {"train": size - test - held, "valid": held, "test": test}
            pieces = torch.arange(size).split(list(sizes.values()))
            found = {name: each for name, each in zip(sizes, pieces, strict=True) if valid or name != "valid"}
        made = tuple(Subset(self, places, part=name) for name, places in found.items())
        for each in made:
            each.origin.update(origin(seed, *shares))
        return made

    @property
    def name(self) -> str:
        """The file's or folder's name."""
        return self._files.name

    def _lines(
        self, skips: CorruptFiles, tokenizer: str | Vocabulary, length: int
    ) -> tuple[Symbols, Tensor, str]:
        """Symbols of the lines, which of them are equal, and the first one."""
        groups = array("q")
        self._files.index(lambda line: groups.append(_group(line)), skips)

        def lines() -> Iterator[str]:
            return (self._files[place].decode() for place in range(len(self._files)))

        self.vocabulary = vocabulary(tokenizer, lines)
        return Symbols(lines(), self.vocabulary, length), torch.tensor(groups), next(lines())

    def _windows(
        self, skips: CorruptFiles, tokenizer: str | Vocabulary, length: int
    ) -> tuple[Symbols, Tensor, str]:
        """Symbols of the windows, their numbers, and the first file."""
        folder = self._files.path if self._files.path.is_dir() else self._files.path.parent
        texts = [each for each in (_read(folder / name, name, skips) for name in self._files.names) if each]
        if not texts:
            raise DataError(f"{str(self._files.path)!r} holds no text")
        self.vocabulary = vocabulary(tokenizer, texts)
        whole_texts = Symbols(texts, self.vocabulary, None)
        end = [] if self.vocabulary.end is None or self.vocabulary.framed else [self.vocabulary.end]
        ends = torch.tensor(end, dtype=torch.int32)
        pieces = [piece for place in range(len(texts)) for piece in (whole_texts[place].int(), ends)]
        made = whole_texts.cut_into(torch.cat(pieces), length)
        if not len(made):
            raise DataError(
                f"{self.name} has {len(torch.cat(pieces)):,} symbols, less than a window of length={length}"
            )
        return made, torch.arange(len(made)), texts[0]


def _read(path: Path, name: str, skips: CorruptFiles) -> str:
    """A file's lines that are valid UTF-8; the others are counted, and named ``file:line``.

    Raises:
        DataError: the file cannot be read, or too many of its lines are no UTF-8.
    """
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True)
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}") from error
    kept = list[str]()
    for number, line in enumerate(lines, 1):
        try:
            kept.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            skips.add(f"{name}:{number}", f"no valid UTF-8: {error.reason} at byte {error.start}")
    skips.check_share(max(1, len(lines)), str(path))
    return "".join(kept)


def _group(line: bytes) -> int:
    """A number for lines of equal text.

    Raises:
        DataError: it is no valid UTF-8, or holds nothing that could be printed.
    """
    try:
        read = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"no valid UTF-8: {error.reason} at byte {error.start}") from error
    if not written(read):
        raise DataError("nothing in it can be printed")
    return int.from_bytes(hashlib.blake2b(plain(read).encode(), digest_size=8).digest(), "big", signed=True)
