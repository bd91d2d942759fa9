"""Corpora in the cache: a folder a language, with an index of what is said by whom."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reprkit.errors import DataError, nearest
from reprkit.utils.cache import cache_folder
from reprkit_audio.data.clips import Clip

INDEX = "clips.json"


def corpus_folder(corpus: str, language: str) -> Path:
    """Where a corpus's recordings of a language are."""
    return cache_folder("audio") / corpus / language


def write_index(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Say what is in a folder: rows of file, speaker, language, key and text."""
    (folder / INDEX).write_text(json.dumps(list(rows), ensure_ascii=False, indent=0), "utf-8")


def read_index(folder: Path) -> Iterator[Clip]:
    """The clips of a folder.

    Raises:
        DataError: its index is damaged.
        FileNotFoundError: it has none.
    """
    try:
        for row in json.loads((folder / INDEX).read_text("utf-8")):
            yield Clip(
                path=folder / row["file"],
                speaker=row["speaker"],
                language=row.get("language"),
                key=row.get("key"),
                text=row.get("text"),
            )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / INDEX} is damaged: {error}") from error


def load_fetched_clips(
    corpus: str, languages: Iterable[str] | str, known: Iterable[str], size: int
) -> list[Clip]:
    """The clips of a corpus that ``reprkit voice fetch`` has put into the cache.

    Raises:
        DataError: a language that the corpus does not have, or that was not fetched yet.
    """
    clips: list[Clip] = []
    there = list(known)
    wanted = [languages] if isinstance(languages, str) else list(languages)
    if not wanted:
        raise DataError(f"{corpus}: languages= names none; known: {', '.join(there)}")
    for language in dict.fromkeys(wanted):
        if language not in there:
            raise DataError(
                f"{corpus} is not in {language!r}.{nearest(str(language), there)}\n  known: {', '.join(there)}"
            )
        folder = corpus_folder(corpus, language)
        try:
            clips += read_index(folder)
        except FileNotFoundError as error:
            raise DataError(
                f"{corpus} in {language!r} is not in {folder}\n"
                f"  fetch it (about {size} MB, no root): reprkit voice fetch {corpus}"
            ) from error
    return clips
