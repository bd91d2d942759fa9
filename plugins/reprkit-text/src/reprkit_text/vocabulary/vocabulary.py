"""One vocabulary: a tokenizer of Hugging Face's tokenizers, its special symbols, and where words begin."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from reprkit.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# What the special symbols are called, by BERT and by others; the keys are transformers' names of them.
NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>", "<bos>"),
    "sep": ("[SEP]", "</s>", "<eos>", "<|endoftext|>"),
    "mask": ("[MASK]", "<mask>"),
}
_CHUNK = 1000  # texts that are encoded at a time
_SPACES = ("Ġ", "▁")  # how a space before a word is written, by byte-level and by sentence-piece vocabularies


class Vocabulary:
    """Text to symbols (t,), int64 from 0 to ``size`` - 1, and back.  The mask symbol of corruptions is ``size``.

    Args:
        tokenizer: of Hugging Face's tokenizers.
        made: how it was made, as a reference without its contents.
    """

    def __init__(self, tokenizer: Tokenizer, made: str) -> None:
        self._tokenizer, self.made = tokenizer, made
        self.size = tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def pad(self) -> int | None:
        """The symbol of padding; None where there is none.  Batches are padded with 0 whatever it is: the mask counts."""
        return self._named("pad")

    @property
    def unknown(self) -> int | None:
        """The symbol of what it has no symbol for; None where it can write everything."""
        return self._named("unk")

    @property
    def start(self) -> int | None:
        """The symbol before a text, which BERT reads sentences from; None where there is none."""
        return self._named("cls")

    @property
    def end(self) -> int | None:
        """The symbol after a text; None where there is none."""
        return self._named("sep")

    @property
    def mask(self) -> int | None:
        """A mask symbol of its own, as checkpoints have one; None in vocabularies made here, where ``size`` is the mask."""
        return self._named("mask")

    @functools.cached_property
    def specials(self) -> tuple[int, ...]:
        """Symbols that stand for no text, ascending."""
        added = self._tokenizer.get_added_tokens_decoder()
        return tuple(sorted(place for place, token in added.items() if token.special))

    @functools.cached_property
    def form(self) -> str:
        """It whole, as a line of text: what ``Field.form`` holds, so that whoever has a model can read and write with it."""
        from reprkit_text.vocabulary.packing import packed

        return packed(self)

    @property
    def framed(self) -> int:
        """How many symbols it puts around every text."""
        return int(self._tokenizer.num_special_tokens_to_add(False))

    def to_json(self) -> str:
        """The tokenizer as Hugging Face's ``tokenizer.json``."""
        self._tokenizer.no_truncation()
        return str(self._tokenizer.to_str())

    def encode(self, text: str, length: int | None = None) -> list[int]:
        """A text's symbols, at most ``length`` of them, those around the text included.

        Raises:
            DataError: the text cannot be encoded, or ``length`` leaves it no symbol.
        """
        return next(self.encode_all([text], length))

    def encode_all(self, texts: Iterable[str], length: int | None = None) -> Iterator[list[int]]:
        """The symbols of each text, as ``encode`` gives them; many at a time, on several cores.

        Raises:
            DataError: see ``encode``.
        """
        return (list(each.ids) for each in self._encodings(texts, length))

    def counted(
        self, texts: Iterable[str], length: int | None = None
    ) -> Iterator[tuple[list[int], bool, int]]:
        """Of each text its symbols, whether it was cut, and how many of them are unknown."""
        unknown = self.unknown
        for each in self._encodings(texts, length):
            ids = list(each.ids)
            yield ids, bool(each.overflowing), 0 if unknown is None else ids.count(unknown)

    def decode(self, symbols: Sequence[int] | Tensor, *, specials: bool = False) -> str:
        """The text that symbols (t,) stand for; a mask symbol is written ``[MASK]``, an unknown one by its name.

        Args:
            symbols: from 0 to ``size``.
            specials: also write the other special symbols, by their names.

        Raises:
            DataError: a symbol that there is not.
        """
        ids = symbols.tolist() if isinstance(symbols, Tensor) else list(symbols)
        if ids and not 0 <= min(ids) <= max(ids) <= self.size:
            raise DataError(
                f"symbols are 0 to {self.size - 1} ({self.size} is the mask), not {min(ids)} to {max(ids)}"
            )
        dropped = set() if specials else set(self.specials) - {self.unknown}
        pieces, run = list[str](), list[int]()
        for each in (*(each for each in ids if each not in dropped), self.size):
            if each != self.size:
                run.append(each)
                continue
            pieces.append(self._tokenizer.decode(run, skip_special_tokens=False).strip() if run else "")
            run = []
        return " [MASK] ".join(pieces).strip()

    @functools.cached_property
    def words(self) -> tuple[Bool[Tensor, " v"], Bool[Tensor, " v"]]:
        """How symbols make words: (v,) can one go on with a word, (v,) may a word go on after it; v = ``size`` + 1.

        A symbol belongs to the word of the one before it if both are true.  Words are runs of letters and digits; any
        other character is a word of its own.
        """
        special = set(self.specials)
        model = json.loads(self._tokenizer.to_str())["model"]
        prefix = model.get("continuing_subword_prefix") if model["type"] == "WordPiece" else None
        joins, open_ended = torch.zeros(2, self.size + 1, dtype=torch.bool)
        for place in range(self.size):
            token = self._tokenizer.id_to_token(place)
            if token is None or place in special:
                continue
            text = token.removeprefix(prefix or "") if prefix else self._tokenizer.decode([place])
            if not text:
                continue
            inner = token.startswith(prefix) if prefix else not token.startswith(_SPACES)
            joins[place], open_ended[place] = inner and _wordy(text[0]), _wordy(text[-1])
        return joins, open_ended

    def __repr__(self) -> str:
        return f"Vocabulary({self.made}: {self.size} symbols)"

    def _named(self, kind: str) -> int | None:
        found = (self._tokenizer.token_to_id(name) for name in NAMES[kind])
        return next((each for each in found if each is not None), None)

    def _encodings(self, texts: Iterable[str], length: int | None) -> Iterator[Encoding]:
        if length is None:
            self._tokenizer.no_truncation()
        elif length <= self.framed:
            raise DataError(
                f"length={length} leaves no room for text: {self.made} puts {self.framed} symbols around each"
            )
        chunk: list[str] = []
        for text in texts:
            chunk.append(text)
            if len(chunk) == _CHUNK:
                yield from self._chunk(chunk, length)
                chunk = []
        if chunk:
            yield from self._chunk(chunk, length)

    def _chunk(self, texts: list[str], length: int | None) -> list[Encoding]:
        if length is not None:
            self._tokenizer.enable_truncation(length)
        try:
            return list(self._tokenizer.encode_batch(texts))
        except (UnicodeEncodeError, TypeError) as error:
            raise DataError(f"a text cannot be encoded: {error}") from error
        except Exception as error:  # tokenizers raises a plain Exception, as for a word that it cannot write
            if type(error) is not Exception:
                raise
            raise DataError(f"{self.made} cannot write a text: {error}") from error


def _wordy(character: str) -> bool:
    """Whether it is part of words; a byte of a character that was cut is."""
    return character.isalnum() or character in "_\ufffd"
