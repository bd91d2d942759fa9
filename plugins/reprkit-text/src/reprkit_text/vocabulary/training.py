"""Train tokenizers on a data set's own texts; each is trained once and kept in the cache."""

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

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")  # 0 to 3 in every vocabulary that is trained here
_BYTES = 256


def byte_pair(
    texts: Callable[[], Iterable[str]],
    vocab: Annotated[int, Ge(_BYTES + len(SPECIALS) + 1), Le(2**24)] = 4000,
    *,
    lower: bool = False,
    marks: bool = False,
) -> Tokenizer:
    """Train byte-pair encoding over bytes, which encodes any text in any script (Sennrich et al. 2016, arXiv 1508.07909).

    Texts are split into words first, as for GPT-2, a space belonging to the word after it; merges never cross word borders.

    Args:
        texts: returns the texts, from the first one at each call.
        vocab: largest number of symbols, the special ones included; at least 261 (all bytes, four special ones and one merge).
        lower: convert to lower case.
        marks: put ``[CLS]`` before and ``[SEP]`` after every text.

    Raises:
        PartArgumentError: an argument out of its range.
    """
    return _load_or_train(
        f"byte-pair {vocab} {lower} {marks}", texts, lambda: _byte_pair(texts, vocab, lower, marks)
    )


def characters(
    texts: Callable[[], Iterable[str]], most: Count = 1000, *, lower: bool = False, marks: bool = False
) -> Tokenizer:
    """Make a vocabulary of the characters of the texts, one symbol each; any other character is ``[UNK]``.

    Args:
        texts: returns the texts, from the first one at each call.
        most: largest number of characters; the most frequent ones are kept.
        lower: convert to lower case.
        marks: put ``[CLS]`` before and ``[SEP]`` after every text.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: the texts hold no characters.
    """
    return _load_or_train(
        f"characters {most} {lower} {marks}", texts, lambda: _characters(texts, most, lower, marks)
    )


def words(
    texts: Callable[[], Iterable[str]],
    min_count: Count = 5,
    *,
    most: Annotated[int, Ge(1), Le(2**24)] = 1_000_000,
    lower: bool = True,
) -> Tokenizer:
    """Make a vocabulary of whole words by count, the most frequent first; any other word is ``[UNK]``.

    A word is a run of letters, with apostrophes inside; digits and punctuation are left out of the text.

    Args:
        texts: returns the texts, from the first one at each call.
        min_count: keep words that occur at least so often.
        most: largest number of words; the most frequent ones are kept.
        lower: convert to lower case.

    Raises:
        PartArgumentError: an argument out of its range.
        DataError: no word occurs so often.
    """
    return _load_or_train(
        f"words {min_count} {most} {lower}", texts, lambda: _words(texts, min_count, most, lower)
    )


def _words(texts: Callable[[], Iterable[str]], min_count: int, most: int, lower: bool) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel({}, unk_token="[UNK]"))
    _set_normalizer(tokenizer, lower)
    letters = r"[\p{L}\p{M}]+"
    # A match is what separates, so with invert=True the words are kept and the rest is removed.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(f"{letters}(?:['’]{letters})*"), behavior="removed", invert=True
    )
    trainer = trainers.WordLevelTrainer(
        vocab_size=most + len(SPECIALS),
        min_frequency=min_count,
        special_tokens=list(SPECIALS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    if tokenizer.get_vocab_size() == len(SPECIALS):
        raise DataError(f"no word of the texts occurs {min_count} times (min_count={min_count})")
    return tokenizer


def _byte_pair(texts: Callable[[], Iterable[str]], vocab: int, lower: bool, marks: bool) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    _set_normalizer(tokenizer, lower)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return _add_marks(tokenizer, marks)


def _characters(texts: Callable[[], Iterable[str]], most: int, lower: bool, marks: bool) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({}, unk_token="[UNK]"))
    _set_normalizer(tokenizer, lower)
    counts: Counter[str] = Counter()
    for text in texts():
        counts.update(text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text))
    if not counts:
        raise DataError("the texts hold no characters to make a vocabulary of")
    frequent = sorted(counts, key=lambda character: (-counts[character], character))[:most]
    numbers = {symbol: number for number, symbol in enumerate([*SPECIALS, *sorted(frequent)])}
    tokenizer.model = models.WordLevel(numbers, unk_token="[UNK]")
    # Not ".", which does not match a line end, a character as well.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIALS))
    return _add_marks(tokenizer, marks)


def _set_normalizer(tokenizer: Tokenizer, lower: bool) -> None:
    """Normalize to NFC, and to lower case with ``lower``."""
    from tokenizers import normalizers

    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lower else [])]
    tokenizer.normalizer = normalizers.Sequence(steps)


def _add_marks(tokenizer: Tokenizer, marks: bool) -> Tokenizer:
    from tokenizers import processors

    if marks:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
        )
    return tokenizer


def _load_or_train(
    settings: str, texts: Callable[[], Iterable[str]], train: Callable[[], Tokenizer]
) -> Tokenizer:
    """Load the tokenizer for these settings and texts from the cache, or train it and store it there."""
    from tokenizers import Tokenizer

    digest = hashlib.sha256()
    for part in _cache_key_parts(settings, texts()):
        digest.update(len(part).to_bytes(8, "big") + part)
    path = cache_folder("text") / "vocabulary" / f"{digest.hexdigest()[:32]}.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception:  # missing or damaged: tokenizers raises a plain Exception for both
        tokenizer = train()
    write_cached(path, tokenizer.to_str().encode())
    return tokenizer


def _cache_key_parts(settings: str, texts: Iterable[str]) -> Iterator[bytes]:
    yield f"2 {settings} tokenizers {importlib.metadata.version('tokenizers')}".encode()
    for number, text in enumerate(texts):
        require(isinstance(text, str), f"text {number} is {type(text).__name__}, not str")
        try:
            yield text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"text {number} is not valid Unicode: {error.reason} at {error.start}") from error
