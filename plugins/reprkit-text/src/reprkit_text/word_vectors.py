"""Word vectors of a trained model: nearest neighbors, and the files of word2vec and gensim."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from reprkit.errors import BuildError, DataError, nearest
from reprkit.interfaces import require
from reprkit.models.factor import resolve_factor
from reprkit.utils.modes import eval_mode
from reprkit_text.transformers_networks.symbols import field_vocabulary

if TYPE_CHECKING:
    from reprkit import Model

_BATCH = 4096


@dataclass(frozen=True)
class WordVectors:
    """Words and their vectors, the most frequent words first.

    Attributes:
        words: different words without spaces.
        vectors: one row a word (v d), float32.

    Raises:
        DataError: no words, words that are repeated or contain spaces, or another number of vectors.
    """

    words: tuple[str, ...]
    vectors: Float[Tensor, "v d"]

    def __post_init__(self) -> None:
        """Check words and vectors."""
        if not self.words or self.vectors.ndim != 2 or len(self.words) != len(self.vectors):
            raise DataError(
                f"word vectors need one vector a word (v d), not {tuple(self.vectors.shape)} for {len(self.words)} words"
            )
        if len(set(self.words)) < len(self.words):
            raise DataError("word vectors: a word occurs twice")
        spaced = next((word for word in self.words if not word or word.split() != [word]), None)
        if spaced is not None:
            raise DataError(
                f"{spaced!r} is no word: it is empty or has a space\n  use the vectors of a vocabulary of words, tokenizer='words'"
            )

    def index(self, word: str) -> int:
        """Return the row of a word.

        Raises:
            DataError: a word that is not known; the message has the nearest spelling.
        """
        try:
            return self._index[word]
        except KeyError:
            raise DataError(
                f"no vector of the word {word!r}.{nearest(word, self.words)}\n  {len(self.words):,} words are known"
            ) from None

    @functools.cached_property
    def _index(self) -> dict[str, int]:
        return {word: row for row, word in enumerate(self.words)}

    @functools.cached_property
    def _unit(self) -> Float[Tensor, "v d"]:
        return torch.nn.functional.normalize(self.vectors, dim=1)

    def __contains__(self, word: object) -> bool:
        """Whether a word has a vector."""
        return word in self._index

    def neighbors(self, word: str, most: int = 10) -> list[tuple[str, float]]:
        """Return the words of the largest cosines to a word, and these, without the word itself.

        Raises:
            PartArgumentError: ``most`` below 1.
            DataError: a word that is not known.
        """
        require(most >= 1, f"most={most}: it is the number of neighbors, at least 1")
        row = self.index(word)
        similarity = self._unit @ self._unit[row]
        similarity[row] = -2
        best = similarity.topk(min(most, len(self.words) - 1))
        return [(self.words[i], float(value)) for i, value in zip(best.indices, best.values, strict=True)]

    def save(self, path: str | os.PathLike[str], *, binary: bool = False) -> Path:
        """Write word2vec's text or binary format, which ``KeyedVectors.load_word2vec_format`` of gensim reads.

        A first line with the number of words and their width; then the words, each with its numbers.
        """
        path, values = Path(path), self.vectors.numpy().astype("<f4")
        with path.open("wb") as file:
            file.write(f"{len(values)} {values.shape[1]}\n".encode())
            for word, row in zip(self.words, values, strict=True):
                numbers = row.tobytes() if binary else " ".join(map(repr, row.tolist())).encode()
                file.write(word.encode() + b" " + numbers + b"\n")
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, binary: bool = False) -> WordVectors:
        """Read word2vec's text or binary format.

        Raises:
            DataError: no such file, or one that is not of this format, is cut short, or holds values that are not finite.
        """
        path = Path(path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        try:
            head, _, rest = content.partition(b"\n")
            count, width = map(int, head.split())
            words, values = (_read_binary if binary else _read_text)(rest, count, width)
        except ValueError as error:
            kind, other = ("binary", "text") if binary else ("text", "binary")
            raise DataError(
                f"{str(path)!r} is not of word2vec's {kind} format, or is cut short: {error}\n  for the {other} format: "
                f"binary={not binary}"
            ) from error
        if not np.isfinite(values).all():
            raise DataError(f"{str(path)!r} holds values that are not finite")
        return cls(tuple(words), torch.from_numpy(values))


def _read_text(rest: bytes, count: int, width: int) -> tuple[list[str], NDArray[np.float32]]:
    *lines, end = rest.decode().split("\n")
    rows = [line.rstrip().split(" ") for line in lines]
    if end or len(rows) != count or any(len(row) != width + 1 for row in rows):
        raise ValueError(f"{count} lines of a word and {width} numbers were announced")
    return [row[0] for row in rows], np.array([row[1:] for row in rows], dtype=np.float32).reshape(
        count, width
    )


def _read_binary(rest: bytes, count: int, width: int) -> tuple[list[str], NDArray[np.float32]]:
    if len(rest) < count * (4 * width + 2):
        raise ValueError(
            f"{count} words with {width} numbers were announced, and the file has {len(rest)} bytes"
        )
    words, start, values = list[str](), 0, np.empty((count, width), dtype=np.float32)
    for row in range(count):
        end = rest.index(b" ", start)
        words.append(rest[start:end].lstrip(b"\n").decode())
        values[row] = np.frombuffer(rest, "<f4", width, end + 1)
        start = end + 1 + 4 * width
    if rest[start:].strip(b"\n"):
        raise ValueError(f"{len(rest) - start} bytes follow the last word")
    return words, values


def word_vectors(model: Model, factor: str | None = None) -> WordVectors:
    """Return the vector of each word of the model's vocabulary: its code where it is the only word of the context.

    The code of the text "w w", at the first word: with encoder words this is the word's vector, with and without a window, after
    adapter and latent.  Any encoder of words and any latent has such a code; of a random one it is the mean.

    Args:
        model: a model trained on data with a vocabulary of words (data set words), most frequent words first.
        factor: the factor; None is the only one.

    Raises:
        BuildError: a model without an encoder, without that factor, with a pooled factor, or without a vocabulary.
        DataError: symbols that are not words.
    """
    name = resolve_factor(model.factors, factor, "word_vectors")
    read = model.factors[name].input
    field = None if model.signature is None else model.signature[read]
    vocabulary = None if field is None else field_vocabulary(field)
    if field is None or vocabulary is None:
        raise BuildError(
            "word_vectors needs a model whose data has a vocabulary of words: data set words, or text with tokenizer='words'"
        )
    specials = set(vocabulary.specials)
    rows = [symbol for symbol in range(vocabulary.size) if symbol not in specials]
    words = tuple(vocabulary.symbols[symbol] for symbol in rows)
    found = []
    with torch.no_grad(), eval_mode(model):
        for part in torch.tensor(rows).split(_BATCH):
            x = part.unsqueeze(1).expand(-1, 2).contiguous()
            mask = {f"{read}_mask": torch.ones_like(x, dtype=torch.bool)} if field.shape[0] is None else {}
            point = model.encode({read: x, **mask}, factors=(name,), any_length=True)[name].point
            found.append(point[:, 0].float().cpu())
    return WordVectors(words, torch.cat(found))


def folded_index(words: Sequence[str]) -> dict[str, int]:
    """Return the row of each word in lower case; of words that differ in case the first, which is the most frequent."""
    found: dict[str, int] = {}
    for row, word in enumerate(words):
        found.setdefault(word.lower(), row)
    return found
