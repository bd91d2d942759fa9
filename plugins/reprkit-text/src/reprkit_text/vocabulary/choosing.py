"""Which vocabulary is meant: one to be trained, one in a file, or one that a field's form holds."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from reprkit.errors import DataError, UnknownPartError, nearest
from reprkit.registry.create import construct
from reprkit.registry.references import Reference, parse
from reprkit_text.vocabulary import packing, training
from reprkit_text.vocabulary.vocabulary import Vocabulary

TRAINED = {"byte-pair": training.byte_pair, "characters": training.characters}
_FILE = "tokenizer.json"


def vocabulary(
    source: str | Path | Vocabulary, texts: Callable[[], Iterable[str]] | Iterable[str] | None = None
) -> Vocabulary:
    """The vocabulary that is meant.

    ==================================================  ====================================================
    source                                              vocabulary
    ==================================================  ====================================================
    "byte-pair(vocab=4000, lower=False, marks=False)"   bytes and their merges, trained on ``texts``
    "characters(most=1000, lower=False, marks=False)"   the characters of ``texts``
    a folder or a ``tokenizer.json``                    a Hugging Face tokenizer; nothing is downloaded
    a field's ``form``                                  the one that its symbols were made with
    ==================================================  ====================================================

    Args:
        source: one of these, or a vocabulary, which is returned as it is.
        texts: what it is trained on, or a function that gives them.

    Raises:
        UnknownPartError: no vocabulary of that name.
        PartArgumentError: a setting that it does not have, or one out of its range.
        DataError: no texts to train on, no such file, or a file that holds no tokenizer.
    """
    if isinstance(source, Vocabulary):
        return source
    if isinstance(source, Path) or _is_path(source):
        return _from_file(Path(source).expanduser())
    reference = parse(source)
    if reference.name == packing.NAME:
        return packing.unpacked(source)
    if reference.name not in TRAINED:
        raise UnknownPartError(
            f"no tokenizer named {reference.name!r}.{nearest(reference.name, TRAINED)}\n"
            f"  known: {', '.join(TRAINED)}, or the path of a folder with a {_FILE}"
        )
    if texts is None:
        raise DataError(f"{source!r} is trained on texts, and none were given")
    held = None if callable(texts) else list(texts)
    give: Callable[[], Iterable[str]] = (lambda: held) if held is not None else texts  # type: ignore[assignment]
    train = functools.partial(TRAINED[reference.name], give)
    made = construct(train, reference.arguments, {}, f"tokenizer {reference.name}")
    return Vocabulary(made, str(Reference(reference.name, reference.arguments)))


def _is_path(source: str) -> bool:
    return source.startswith((".", "/", "~")) or source.endswith(".json") or os.path.isdir(source)


def _from_file(path: Path) -> Vocabulary:
    from tokenizers import Tokenizer

    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        older = path.is_dir() and sorted(each.name for each in path.iterdir())
        raise DataError(
            f"no tokenizer {str(file)!r} (looked in {Path.cwd()})"
            + (f"\n  the folder holds: {', '.join(older[:10])}" if older else "")
            + "\n  nothing is downloaded: save one with transformers' tokenizer.save_pretrained(FOLDER)"
        )
    try:
        made = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises a plain Exception
        raise DataError(f"{str(file)!r} holds no tokenizer: {error}") from error
    made.no_padding()
    return Vocabulary(made, str(path))
