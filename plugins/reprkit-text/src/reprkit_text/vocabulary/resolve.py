"""Resolve a vocabulary: train one, load one from a file, or unpack the one in a field's form."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from reprkit.errors import DataError, UnknownPartError, nearest
from reprkit.registry.create import construct
from reprkit.registry.references import Reference, parse
from reprkit_text.vocabulary import packing, training
from reprkit_text.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TRAINED: dict[str, Callable[..., Tokenizer]] = {
    "byte-pair": training.byte_pair,
    "characters": training.characters,
    "words": training.words,
}
_FILE = "tokenizer.json"


def vocabulary(
    source: str | Path | Vocabulary, texts: Callable[[], Iterable[str]] | Iterable[str] | None = None
) -> Vocabulary:
    """Return the vocabulary for ``source``, trained on ``texts`` where it has to be.

    ==================================================  ====================================================
    source                                              vocabulary
    ==================================================  ====================================================
    "byte-pair(vocab=4000, lower=False, marks=False)"   bytes and their merges, trained on ``texts``
    "characters(most=1000, lower=False, marks=False)"   the characters of ``texts``
    "words(min_count=5, lower=True)"                    whole words of ``texts``, by count
    a folder or a ``tokenizer.json``                    a Hugging Face tokenizer; nothing is downloaded
    a field's ``form``                                  the one that made the field's symbols
    ==================================================  ====================================================

    Args:
        source: one of these, or a vocabulary, which is returned unchanged.
        texts: training texts, or a function that returns an iterable of them.

    Raises:
        UnknownPartError: no vocabulary of that name.
        PartArgumentError: an unknown setting, or one out of its range.
        DataError: no texts to train on, no such file, a file without a tokenizer, or a damaged form.
    """
    if isinstance(source, Vocabulary):
        return source
    if isinstance(source, Path) or _is_path(source):
        return _from_file(Path(source).expanduser())
    reference = parse(source)
    if reference.name == packing.NAME:
        return _from_form(source)
    if reference.name not in TRAINED:
        raise UnknownPartError(
            f"no tokenizer named {reference.name!r}.{nearest(reference.name, TRAINED)}\n"
            f"  known: {', '.join(TRAINED)}, or the path of a folder with a {_FILE}"
        )
    if texts is None:
        raise DataError(f"tokenizer {source!r} must be trained on texts, and none were given")
    in_memory = None if callable(texts) else list(texts)
    read_texts: Callable[[], Iterable[str]] = (lambda: in_memory) if in_memory is not None else texts  # type: ignore[assignment]
    train = functools.partial(TRAINED[reference.name], read_texts)
    tokenizer = construct(train, reference.arguments, {}, f"tokenizer {reference.name}")
    return Vocabulary(tokenizer, str(Reference(reference.name, reference.arguments)))


def _is_path(source: str) -> bool:
    return source.startswith((".", "/", "~")) or source.endswith(".json") or os.path.isdir(source)


def _from_file(path: Path) -> Vocabulary:
    from tokenizers import Tokenizer

    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        names = path.is_dir() and sorted(entry.name for entry in path.iterdir())
        raise DataError(
            f"no tokenizer {str(file)!r} (looked in {Path.cwd()})"
            + (f"\n  the folder holds: {', '.join(names[:10])}" if names else "")
            + "\n  nothing is downloaded: save one with transformers' tokenizer.save_pretrained(FOLDER)"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises a plain Exception
        raise DataError(f"{str(file)!r} holds no tokenizer: {error}") from error
    tokenizer.no_padding()
    return Vocabulary(tokenizer, str(path))


@functools.lru_cache(maxsize=16)
def _from_form(form: str) -> Vocabulary:
    from tokenizers import Tokenizer

    try:
        tokenizer, source = packing.unpack(form)
        return Vocabulary(Tokenizer.from_str(tokenizer), source)
    except Exception as error:  # tokenizers raises a plain Exception
        raise DataError(
            f"{form[:60]!r}... cannot be read as a vocabulary: {type(error).__name__}: {error}\n"
            "  a field's form comes from the data sets text, documents and debian"
        ) from error
