"""Base class of data sets of pictures with texts: the symbols of the texts, labels, and which pictures stay together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data.collation import to_index
from reprkit_text.data.symbols import Symbols, check_symbols
from reprkit_text.data.text import TextData
from reprkit_text.vocabulary import Vocabulary, vocabulary


class CaptionedPictures(Dataset):
    """Pictures, each with one text; a subclass defines ``pixels``.

    Fields: ``x`` image (h w c), float32 in [0, 1]; ``text`` tokens (t,), whose ``form`` is the packed vocabulary; labels.

    Attributes:
        texts: the texts, uncut, in order.
        vocabulary: of the texts' symbols.
    """

    def _set_up(
        self,
        image: Field,
        texts: Sequence[str],
        tokenizer: str | Vocabulary,
        *,
        name: str,
        length: int | None,
        labels: Mapping[str, tuple[Tensor, Sequence[str]]],
        facts: Mapping[str, Any],
    ) -> None:
        """Encode the texts and set the signature.

        Args:
            image: field ``x``.
            texts: of all pictures, in order.
            tokenizer: see ``reprkit_text.vocabulary``; trained on these texts.
            name: for reports.
            length: largest number of symbols of a text; the rest is cut off and counted.
            labels: label field -> class of each picture (n,), names of the classes.
            facts: for ``describe``.

        Raises:
            DataError: a vocabulary that cannot encode the texts.
        """
        self.texts, self._name = list(texts), name
        self.vocabulary = vocabulary(tokenizer, dict.fromkeys(self.texts))
        self._symbols = Symbols(self.texts, self.vocabulary, length)
        self._labels = {field: values for field, (values, _) in labels.items()}
        self.facts = {
            **facts,
            "tokenizer": self.vocabulary.source,
            **check_symbols(self._symbols, self.vocabulary, name, self.texts[0]),
        }
        text = Field(kind="tokens", shape=(None,), vocab=self.vocabulary.size, form=self.vocabulary.form)
        fields = {
            field: Field(kind="label", shape=(), vocab=len(classes), classes=tuple(classes))
            for field, (_, classes) in labels.items()
        }
        self.signature = Signature({"x": image, "text": text, **fields})

    def pixels(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b h w c"]:
        """Return pictures, float32 in [0, 1]."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.texts)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one picture with its text; a negative index counts from the end."""
        batch = self.batch([range(len(self))[index]])
        return {name: value[0] for name, value in batch.items() if name != "text_mask"}

    def batch(self, indices: Int[Tensor, " b"] | Iterable[int]) -> dict[str, Tensor]:
        """Return the examples at ``indices`` (b,), texts padded, with ``text_mask``."""
        index = to_index(indices)
        text, mask = self._symbols.pad_batch(index)
        labels = {name: values[index] for name, values in self._labels.items()}
        return {"x": self.pixels(index), "text": text, "text_mask": mask, **labels}

    def lengths(self) -> dict[str, Int[Tensor, " n"]]:
        """Return the number of symbols of every text."""
        return {"text": self._symbols.lengths}

    def label_values(self, field: str) -> Int[Tensor, " n"]:
        """Return a label field of all pictures (n,), without reading them."""
        return self._labels[field] if field in self._labels else super().label_values(field)

    @classmethod
    def read_raw(cls, value: str | Path, field: Field) -> list[Tensor]:
        """Return the examples of a text or a text file for field ``text``, as data set ``text`` does."""
        return TextData.read_raw(value, field)

    @property
    def name(self) -> str:
        """Short name for reports."""
        return self._name
