"""Lines of text as rows of words for word2vec: a vocabulary by count, and subsampling of frequent words."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from typing import Annotated, Any

import torch
from annotated_types import Ge, Le
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit import Field, Signature
from reprkit.data.base import derive_seed
from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.text_files import TextFiles
from reprkit.data.identity import hash_names
from reprkit.errors import DataError
from reprkit.registry.constraints import NonNegative, Seed, Share
from reprkit_text.data.symbol_rows import SymbolRows
from reprkit_text.data.symbols import Symbols
from reprkit_text.data.text import SUFFIXES, line_hash
from reprkit_text.vocabulary import Vocabulary, vocabulary


class Words(SymbolRows):
    """Lines of a text file, or of all .txt, .text, .md and .rst files below a folder, as rows of words.

    Field ``x`` tokens (n,), of varying length.  Words that the vocabulary does not have are left out, and so are rows of one word.
    ``counts`` of the field are those of the vocabulary's words before subsampling, from which decoder words draws its noise.

    A word of frequency f is kept with the probability ``sqrt(subsample / f) + subsample / f``, at most 1, as word2vec's program
    does (Mikolov et al. 2013, arXiv 1310.4546, section 2.3, whose formula lacks the second term).  Windows then reach farther.
    ``draws`` draws of the whole text follow one another in the data set: one epoch of it is ``draws`` epochs of word2vec.

    Args:
        path: a file (any suffix), or a folder.
        tokenizer: "words(min_count=5)", or another vocabulary whose symbols are words; trained on this text.
        subsample: frequency above which words are subsampled; 0 keeps all.
        draws: number of draws of the text.
        length: largest number of words of a row; longer lines are cut into several, before subsampling.
        seed: seed of the draws.
        encoding: of files without a byte-order mark, such as "latin-1"; UTF-8 by default.
        max_corrupt: largest share of lines (and of files) that are not of their encoding; more raise an error.

    Raises:
        DataError: no such file, no line with two words of the vocabulary, or too many lines that are not of their encoding.
        PartArgumentError: an argument out of its range.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tokenizer: str | Vocabulary = "words(min_count=5)",
        *,
        subsample: NonNegative = 1e-3,
        draws: Annotated[int, Ge(1), Le(1000)] = 1,
        length: Annotated[int, Ge(2), Le(2**15)] = 64,
        seed: Seed = 0,
        encoding: str | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        skips = CorruptFiles("lines", max_corrupt)
        self._files = TextFiles(path, SUFFIXES, "text files", encoding)
        hashes = array("q")
        self._files.index(lambda line: hashes.append(line_hash(line)), skips)

        def lines() -> Iterator[str]:
            return (self._files[index].decode() for index in range(len(self._files)))

        self.vocabulary = vocabulary(tokenizer, lines)
        symbols = Symbols(lines(), self.vocabulary, None)
        known = torch.ones(len(symbols.flat), dtype=torch.bool)
        for special in self.vocabulary.specials:
            known &= symbols.flat != special
        counts = symbols.flat[known].bincount(minlength=self.vocabulary.size)
        if not int(counts.sum()):
            raise DataError(
                f"{self.name} has no word of the vocabulary {self.vocabulary.source}: lower min_count="
            )
        chance = keep_chances(counts, subsample)
        lines_of = torch.repeat_interleave(torch.arange(len(symbols)), symbols.lengths)
        piece = (torch.arange(len(symbols.flat)) - symbols.ends[lines_of]) // length
        flats, sizes, owners = list[Tensor](), list[Tensor](), list[Tensor]()
        for draw in range(draws):
            generator = torch.Generator().manual_seed(derive_seed(seed, draw))
            kept = known & (torch.rand(len(known), generator=generator) < chance[symbols.flat.long()])
            flat, size, owner = _rows(symbols.flat[kept], lines_of[kept], piece[kept])
            flats.append(flat)
            sizes.append(size)
            owners.append(owner)
        self._lines = torch.cat(owners)
        if not len(self._lines):
            raise DataError(
                f"{self.name} has no line with two words of the vocabulary {self.vocabulary.source} that subsample={subsample:g} "
                "keeps: lower min_count=, or subsample=0"
            )
        self._symbols = symbols.rows(torch.cat(flats), torch.cat(sizes))
        self._hashes = torch.tensor(hashes)
        self.facts: dict[str, Any] = {
            **skips.facts(),
            **self._files.facts(),
            "tokenizer": self.vocabulary.source,
            "words": int(counts.sum()),
            "unknown_share": round(1 - float(known.float().mean()), 6),
            "subsampled_share": round(1 - len(self._symbols.flat) / (draws * int(counts.sum())), 6),
        }
        field = Field(
            kind="tokens",
            shape=(None,),
            vocab=self.vocabulary.size,
            form=self.vocabulary.form,
            counts=tuple(counts.tolist()),
        )
        self.signature = Signature({"x": field})

    def identities(self) -> list[str] | None:
        """Return a hash of each row's line, so that all draws and pieces of a line stay in one part of a split."""
        return hash_names(self._hashes[self._lines].tolist())

    @property
    def name(self) -> str:
        """The file's or folder's name."""
        return self._files.name


def keep_chances(counts: Int[Tensor, " v"], subsample: float) -> Float[Tensor, " v"]:
    """Return the probability with which each word is kept; 1 for all with ``subsample=0``."""
    if not subsample:
        return torch.ones(len(counts))
    ratio = subsample * counts.sum() / counts.clamp(min=1).double()
    return (ratio.sqrt() + ratio).clamp(max=1).float()


def _rows(flat: Tensor, line: Tensor, piece: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the symbols of the rows of at least two words, their lengths, and the line of each."""
    new: Bool[Tensor, " t"] = torch.ones(len(flat), dtype=torch.bool)
    new[1:] = (line[1:] != line[:-1]) | (piece[1:] != piece[:-1])
    row = new.cumsum(0) - 1
    sizes = row.bincount()
    enough = sizes >= 2
    return flat[enough[row]], sizes[enough], line[new][enough]
