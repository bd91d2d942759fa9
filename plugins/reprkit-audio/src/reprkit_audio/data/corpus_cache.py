"""Cache of fetched corpora: a folder per language, with an index of its clips."""

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
    """Folder of a corpus's recordings in a language."""
    return cache_folder("audio") / corpus / language


def write_index(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the index of a folder: rows of file, speaker, language, key and text."""
    (folder / INDEX).write_text(json.dumps(list(rows), ensure_ascii=False, indent=0), "utf-8")


def read_index(folder: Path) -> Iterator[Clip]:
    """Read the clips of a folder.

    Raises:
        DataError: the index is damaged.
        FileNotFoundError: there is no index.
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
    """Load the clips of a corpus that ``reprkit voice fetch`` has stored in the cache.

    Raises:
        DataError: a language that the corpus lacks, or that was not fetched yet.
    """
    clips: list[Clip] = []
    available = list(known)
    wanted = [languages] if isinstance(languages, str) else list(languages)
    if not wanted:
        raise DataError(f"{corpus}: languages= is empty; known: {', '.join(available)}")
    for language in dict.fromkeys(wanted):
        if language not in available:
            raise DataError(
                f"{corpus} is not in {language!r}.{nearest(str(language), available)}\n  known: {', '.join(available)}"
            )
        folder = corpus_folder(corpus, language)
        try:
            clips += read_index(folder)
        except FileNotFoundError as error:
            raise DataError(
                f"{corpus} in {language!r} is not in {folder}\n"
                f"  fetch it (about {size} MB, no root rights): reprkit voice fetch {corpus}"
            ) from error
    return clips
