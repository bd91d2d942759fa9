"""A vocabulary: a tokenizer of Hugging Face's tokenizers, its special symbols, and where words begin."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from reprkit.errors import DataError
from reprkit_text.vocabulary.packing import pack

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# Spellings of the special symbols, in BERT and elsewhere; the keys are transformers' names for them.
SPECIAL_NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>", "<bos>"),
    "sep": ("[SEP]", "</s>", "<eos>", "<|endoftext|>"),
    "mask": ("[MASK]", "<mask>"),
}
_CHUNK = 1000  # texts encoded at a time
_SPACES = ("Ġ", "▁")  # a space before a word, in byte-level and in sentence-piece vocabularies


class Vocabulary:
    """Map text to symbols (t,), int64 from 0 to ``size`` - 1, and back.  The mask symbol of corruptions is ``size``.

    Args:
        tokenizer: a tokenizer of Hugging Face's tokenizers.
        source: how it was made: a reference without the contents, or a path.
    """

    def __init__(self, tokenizer: Tokenizer, source: str) -> None:
        self._tokenizer, self.source = tokenizer, source
        self.size = tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def pad(self) -> int | None:
        """The padding symbol, or None.  Batches are padded with 0 in any case: the mask says what is valid."""
        return self._special_symbol("pad")

    @property
    def unknown(self) -> int | None:
        """The symbol for everything that has none; None where every text can be encoded."""
        return self._special_symbol("unk")

    @property
    def start(self) -> int | None:
        """The symbol before a text, such as BERT's ``[CLS]``, or None."""
        return self._special_symbol("cls")

    @property
    def end(self) -> int | None:
        """The symbol after a text, or None."""
        return self._special_symbol("sep")

    @property
    def mask(self) -> int | None:
        """The vocabulary's own mask symbol, as in checkpoints; None in vocabularies trained here, where ``size`` is the mask."""
        return self._special_symbol("mask")

    @functools.cached_property
    def specials(self) -> tuple[int, ...]:
        """The special symbols, which stand for no text, ascending."""
        added = self._tokenizer.get_added_tokens_decoder()
        return tuple(sorted(number for number, token in added.items() if token.special))

    @functools.cached_property
    def symbols(self) -> tuple[str, ...]:
        """What stands for each symbol in the tokenizer, in their order: the words themselves in a vocabulary of words."""
        return tuple(str(self._tokenizer.id_to_token(number)) for number in range(self.size))

    @functools.cached_property
    def form(self) -> str:
        """The whole vocabulary as a line of text, kept in ``Field.form``: a model alone is enough to encode and decode."""
        return pack(self.to_json(), self.source)

    @property
    def marks_count(self) -> int:
        """How many symbols are put around every text."""
        return int(self._tokenizer.num_special_tokens_to_add(False))

    def to_json(self) -> str:
        """Return the content of Hugging Face's ``tokenizer.json``."""
        self._tokenizer.no_truncation()
        return str(self._tokenizer.to_str())

    def encode(self, text: str, length: int | None = None) -> list[int]:
        """Encode a text in at most ``length`` symbols, those around the text included.

        Raises:
            DataError: the text cannot be encoded, or ``length`` leaves it no symbol.
        """
        return next(self.encode_all([text], length))

    def encode_all(self, texts: Iterable[str], length: int | None = None) -> Iterator[list[int]]:
        """Encode each text as ``encode`` does; many at a time, on several cores.

        Raises:
            DataError: see ``encode``.
        """
        return (list(encoding.ids) for encoding in self._encodings(texts, length))

    def encode_with_counts(
        self, texts: Iterable[str], length: int | None = None
    ) -> Iterator[tuple[list[int], bool, int]]:
        """Yield each text's symbols, whether it was cut, and how many of the symbols are unknown."""
        unknown = self.unknown
        for encoding in self._encodings(texts, length):
            ids = list(encoding.ids)
            yield ids, bool(encoding.overflowing), 0 if unknown is None else ids.count(unknown)

    def decode(self, symbols: Sequence[int] | Tensor, *, specials: bool = False) -> str:
        """Decode symbols (t,) to text; the mask becomes ``[MASK]``, an unknown symbol its name.

        Args:
            symbols: from 0 to ``size``.
            specials: keep the other special symbols, by their names.

        Raises:
            DataError: a symbol out of range.
        """
        ids = symbols.tolist() if isinstance(symbols, Tensor) else list(symbols)
        if ids and not 0 <= min(ids) <= max(ids) <= self.size:
            raise DataError(
                f"symbols must be 0 to {self.size - 1} ({self.size} is the mask), not {min(ids)} to {max(ids)}"
            )
        dropped = set() if specials else set(self.specials) - {self.unknown}
        pieces, run = list[str](), list[int]()
        for symbol in (*(symbol for symbol in ids if symbol not in dropped), self.size):
            if symbol != self.size:
                run.append(symbol)
                continue
            pieces.append(self._tokenizer.decode(run, skip_special_tokens=False).strip() if run else "")
            run = []
        return " [MASK] ".join(pieces).strip()

    @functools.cached_property
    def word_boundaries(self) -> tuple[Bool[Tensor, " v"], Bool[Tensor, " v"]]:
        """Whether each symbol can continue a word (v,), and whether a word can continue after it (v,); v = ``size`` + 1.

        A symbol belongs to the same word as the one before it if both hold.  Words are runs of letters and digits; any
        other character is a word by itself.
        """
        special = set(self.specials)
        model = json.loads(self._tokenizer.to_str())["model"]
        prefix = model.get("continuing_subword_prefix") if model["type"] == "WordPiece" else None
        joins, open_ended = torch.zeros(2, self.size + 1, dtype=torch.bool)
        for symbol in range(self.size):
            token = self._tokenizer.id_to_token(symbol)
            if token is None or symbol in special:
                continue
            text = token.removeprefix(prefix or "") if prefix else self._tokenizer.decode([symbol])
            if not text:
                continue
            inner = token.startswith(prefix) if prefix else not token.startswith(_SPACES)
            joins[symbol], open_ended[symbol] = (
                inner and _is_word_character(text[0]),
                _is_word_character(text[-1]),
            )
        return joins, open_ended

    def __repr__(self) -> str:
        return f"Vocabulary({self.source}: {self.size} symbols)"

    def _special_symbol(self, kind: str) -> int | None:
        numbers = (self._tokenizer.token_to_id(name) for name in SPECIAL_NAMES[kind])
        return next((number for number in numbers if number is not None), None)

    def _encodings(self, texts: Iterable[str], length: int | None) -> Iterator[Encoding]:
        if length is None:
            self._tokenizer.no_truncation()
        elif length <= self.marks_count:
            raise DataError(
                f"length={length} leaves no room for text: {self.source} puts {self.marks_count} symbols around each"
            )
        chunk: list[str] = []
        for text in texts:
            chunk.append(text)
            if len(chunk) == _CHUNK:
                yield from self._encode_chunk(chunk, length)
                chunk = []
        if chunk:
            yield from self._encode_chunk(chunk, length)

    def _encode_chunk(self, texts: list[str], length: int | None) -> list[Encoding]:
        if length is not None:
            self._tokenizer.enable_truncation(length)
        try:
            return list(self._tokenizer.encode_batch(texts))
        except (UnicodeEncodeError, TypeError) as error:
            raise DataError(f"a text cannot be encoded: {error}") from error
        except (
            Exception
        ) as error:  # tokenizers raises a plain Exception, for example for a word that it cannot encode
            if type(error) is not Exception:
                raise
            raise DataError(f"{self.source} cannot encode a text: {error}") from error


def _is_word_character(character: str) -> bool:
    """Whether a character is part of a word; so is a byte of a split character."""
    return character.isalnum() or character in "_\ufffd"
