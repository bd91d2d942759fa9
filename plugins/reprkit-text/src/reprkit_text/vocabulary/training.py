"""Vocabularies trained on a data set's own texts; each is made once and kept in the cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from reprkit.errors import DataError
from reprkit.interfaces import require
from reprkit.registry.constraints import Count
from reprkit.utils.cache import cache_folder, write_cached

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # 0 to 3 in every vocabulary that is made here
_BYTES = 256


def byte_pair(
    texts: Callable[[], Iterable[str]],
    vocab: Annotated[int, Ge(_BYTES + len(SPECIALS) + 1), Le(2**24)] = 4000,
    *,
    lower: bool = False,
    marks: bool = False,
) -> Tokenizer:
    """Byte-pair encoding over bytes: every text can be written, in any script (Sennrich et al. 2016, arXiv 1508.07909).

    Words are cut before as GPT-2's are, a space belonging to the word behind it; merges never cross their borders.

    Args:
        texts: gives the texts, each time from the first one.
        vocab: symbols at most, the special ones included; from 261 (all bytes, four special ones and one merge).
        lower: write everything in small letters.
        marks: put ``[CLS]`` before and ``[SEP]`` behind every text.

    Raises:
        PartArgumentError: an argument out of its range.
    """
    return _kept(f"byte-pair {vocab} {lower} {marks}", texts, lambda: _byte_pair(texts, vocab, lower, marks))


def characters(
    texts: Callable[[], Iterable[str]], most: Count = 1000, *, lower: bool = False, marks: bool = False
) -> Tokenizer:
    """The characters of the texts, one symbol each; a character that they do not hold is ``[UNK]``.

    Args:
        texts: gives the texts, each time from the first one.
        most: characters at most: the most frequent ones.
        lower: write everything in small letters.
        marks: put ``[CLS]`` before and ``[SEP]`` behind every text.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: the texts hold no characters.
    """
    return _kept(f"characters {most} {lower} {marks}", texts, lambda: _characters(texts, most, lower, marks))


def _byte_pair(texts: Callable[[], Iterable[str]], vocab: int, lower: bool, marks: bool) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    _normalised(made, lower)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts(), trainer)
    return _marked(made, marks)


def _characters(texts: Callable[[], Iterable[str]], most: int, lower: bool, marks: bool) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.WordLevel({}, unk_token="[UNK]"))
    _normalised(made, lower)
    counts: Counter[str] = Counter()
    for text in texts():
        counts.update(text if made.normalizer is None else made.normalizer.normalize_str(text))
    if not counts:
        raise DataError("the texts hold no characters to make a vocabulary of")
    frequent = sorted(counts, key=lambda each: (-counts[each], each))[:most]
    known = {symbol: place for place, symbol in enumerate([*SPECIALS, *sorted(frequent)])}
    made.model = models.WordLevel(known, unk_token="[UNK]")
    # Not ".", which a line end is not; it is a character, too.
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens(list(SPECIALS))
    return _marked(made, marks)


def _normalised(made: Tokenizer, lower: bool) -> None:
    """One way to write each character (NFC), and small letters where asked."""
    from tokenizers import normalizers

    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lower else [])]
    made.normalizer = normalizers.Sequence(steps)


def _marked(made: Tokenizer, marks: bool) -> Tokenizer:
    from tokenizers import processors

    if marks:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            special_tokens=[(name, made.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
        )
    return made


def _kept(settings: str, texts: Callable[[], Iterable[str]], make: Callable[[], Tokenizer]) -> Tokenizer:
    """The tokenizer of the cache, if there is one of these settings and texts; else it is made and kept."""
    from tokenizers import Tokenizer

    digest = hashlib.sha256()
    for part in _parts(settings, texts()):
        digest.update(len(part).to_bytes(8, "big") + part)
    path = cache_folder("text") / "vocabulary" / f"{digest.hexdigest()[:32]}.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception:  # not there, or damaged: tokenizers raises a plain Exception for both
        made = make()
    write_cached(path, made.to_str().encode())
    return made


def _parts(settings: str, texts: Iterable[str]) -> Iterator[bytes]:
    yield f"2 {settings} tokenizers {importlib.metadata.version('tokenizers')}".encode()
    for number, text in enumerate(texts):
        require(isinstance(text, str), f"text {number} is {type(text).__name__}, not str")
        try:
            yield text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"text {number} is no valid Unicode: {error.reason} at {error.start}") from error
