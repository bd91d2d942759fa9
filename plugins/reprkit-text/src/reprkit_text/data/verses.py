"""Verses in several translations: a text, and the same verse as another translation says it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from annotated_types import MinLen
from jaxtyping import Int
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data.collation import to_index
from reprkit.interfaces import require
from reprkit.registry.constraints import Count
from reprkit_text import verse_files
from reprkit_text.data.symbols import Symbols, check_symbols
from reprkit_text.vocabulary import Vocabulary, vocabulary

Translation = Literal["kjv", "web", "rv"]


class Verses(Dataset):
    """Verses of the Bible in two or three translations, keyed alike: the meaning is shared, and the style is the translation's.

    An example is an ordered pair of translations of one verse.  Fields: ``x`` tokens (t,), the verse in the first; ``other`` tokens
    (t,), the same verse in the second; ``translation``, label, that of ``x``; ``other_translation``, label, that of ``other``;
    ``verse``, label, which verse.  ``split`` keeps all examples of a verse in one part.  Verses that one of the
    three translations lacks or numbers otherwise are left out.

    kjv: King James, English of 1769; web: World English Bible, 2020; rv: Reina-Valera, Spanish, 1909; all in the public domain.
    ``reprkit text fetch verses`` puts them into the cache.

    Args:
        translations: at least two of "kjv", "web", "rv".
        tokenizer: see ``documents``; trained on these texts (all parts of them).
        length: largest number of symbols of a verse; the rest is cut off and counted.  None: no limit.
        limit: use only the first so many verses; None: all.

    Raises:
        DataError: the verses have not been fetched, or are damaged.
        PartArgumentError: an argument out of its range, or a translation twice.
    """

    def __init__(
        self,
        translations: Annotated[tuple[Translation, ...], MinLen(2)] = ("kjv", "web"),
        tokenizer: str | Vocabulary = "byte-pair(vocab=4000, lower=True)",
        *,
        length: Count | None = 64,
        limit: Count | None = None,
    ) -> None:
        require(
            len(set(translations)) == len(translations), f"translations={translations!r}: one is given twice"
        )
        verses = verse_files.read(verse_files.cached_path())
        self.keys, self.translations = list(verses)[:limit], tuple(translations)
        self.texts = [verses[key][name] for key in self.keys for name in translations]
        self.vocabulary = vocabulary(tokenizer, self.texts)
        self._symbols = Symbols(self.texts, self.vocabulary, length)
        self._pairs = torch.tensor(list(itertools.permutations(range(len(translations)), 2)))
        self.facts: dict[str, Any] = {
            "translations": list(translations),
            "tokenizer": self.vocabulary.source,
            **check_symbols(self._symbols, self.vocabulary, self.name, self.texts[0]),
        }
        text = Field(kind="tokens", shape=(None,), vocab=self.vocabulary.size, form=self.vocabulary.form)
        label = Field(kind="label", shape=(), vocab=len(translations), classes=self.translations)
        verse = Field(kind="label", shape=(), vocab=len(self.keys))
        self.signature = Signature(
            {"x": text, "other": text, "translation": label, "other_translation": label, "verse": verse}
        )

    def __len__(self) -> int:
        """Return the number of verses times that of ordered pairs of translations."""
        return len(self.keys) * len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one example; a negative index counts from the end."""
        batch = self.batch([range(len(self))[index]])
        return {name: value[0] for name, value in batch.items() if not name.endswith("_mask")}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples at ``indices`` (b,), texts padded, with masks."""
        verse, (first, second) = self._places(to_index(indices))
        count = len(self.translations)
        x, x_mask = self._symbols.pad_batch(verse * count + first)
        other, other_mask = self._symbols.pad_batch(verse * count + second)
        texts = {"x": x, "x_mask": x_mask, "other": other, "other_mask": other_mask}
        return {**texts, "translation": first, "other_translation": second, "verse": verse}

    def text(self, index: int) -> tuple[str, str]:
        """Return the uncut texts of an example: ``x`` and ``other``."""
        verse, (first, second) = self._places(torch.tensor([range(len(self))[index]]))
        row = int(verse) * len(self.translations)
        return self.texts[row + int(first)], self.texts[row + int(second)]

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Return the number of symbols of ``x`` and ``other`` of every example."""
        verse, (first, second) = self._places(torch.arange(len(self)))
        rows, lengths = verse * len(self.translations), self._symbols.lengths
        return {"x": lengths[rows + first], "other": lengths[rows + second]}

    def identities(self) -> list[str]:
        """Return the key of every example's verse, such as "Gen.1.1"."""
        return [key for key in self.keys for _ in range(len(self._pairs))]

    def label_values(self, field: str) -> Tensor:
        """Return a label of every example."""
        verse, (first, second) = self._places(torch.arange(len(self)))
        return {"translation": first, "other_translation": second, "verse": verse}[field]

    def _places(self, index: Int[Tensor, " b"]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return verse and translations (of ``x``, of ``other``) of examples."""
        pairs = self._pairs[index % len(self._pairs)]
        return index // len(self._pairs), (pairs[:, 0], pairs[:, 1])

    @property
    def name(self) -> str:
        """A short name for reports."""
        return "verses"
