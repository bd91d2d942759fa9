"""Cache of fetched corpora: a folder per language, with an index of its clips."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from reprkit.errors import DataError
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
