"""The user's own documents: JSON lines, optionally with human summaries."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.text_encoding import wrong_encoding
from reprkit.data.formats.text_files import TextFiles
from reprkit.errors import DataError, nearest
from reprkit.registry.constraints import Count, Share
from reprkit_text.data.documents_in_memory import InMemoryDocuments
from reprkit_text.data.records import Record, strip_text
from reprkit_text.vocabulary import Vocabulary

SUFFIXES = frozenset((".jsonl", ".ndjson"))


class Documents(InMemoryDocuments):
    """A JSON Lines file, or all .jsonl and .ndjson files below a folder: one object a line, with ``document`` and ``summary``.

    Fields: ``x`` tokens (t,), the document; ``summary`` tokens (t,), the human summary of **another** document, where there are
    summaries; ``label``, where one is named.  Training never sees a pair: only ``pairs()`` of a valid or test part gives
    documents with their own summaries.  ``split`` keeps documents of equal text in one part, together with the documents
    whose summaries are shown with them.

    A line that is not a JSON object or not valid UTF-8, or whose document is missing, not a text or empty, is left out, counted
    and named.  A document without a summary, or with an empty one, is kept, and shown with another document's summary.

    Args:
        path: a file (any suffix), or a folder.
        tokenizer: "byte-pair(vocab=4000)", "characters", or the path of a Hugging Face ``tokenizer.json``; trained on these
            texts (all parts of them).
        document: key of the document in a line.
        summary: key of the human summary; None for no summaries.
        label: key of the class, a text; None for no labels.
        length: largest number of symbols of a document; the rest is cut off and counted (``cut_count``).  None: no limit.
        summary_length: the same for a summary.
        paired: show each document with its own summary, for a supervised model.
        encoding: of files without a byte-order mark; UTF-8 by default.
        max_corrupt: largest share of broken lines that may be left out; more raise an error.

    Raises:
        DataError: no such file, no documents, no line with that document or label key, too many broken lines, or only one
            summary.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        tokenizer: str | Vocabulary = "byte-pair(vocab=4000)",
        *,
        document: str = "document",
        summary: str | None = "summary",
        label: str | None = None,
        length: Count | None = 512,
        summary_length: Count | None = 64,
        paired: bool = False,
        encoding: str | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        skips = CorruptFiles("documents", max_corrupt)
        files = TextFiles(path, SUFFIXES, "JSON Lines files", encoding)
        self._document, self._summary_key, self._label = document, summary, label
        self._keys: dict[str, None] = {}
        records: list[Record] = []
        files.index(lambda line: records.append(self._record(line)), skips)
        known = ", ".join(map(repr, self._keys))
        super().__init__(
            records,
            tokenizer,
            name=files.name,
            length=length,
            summary_length=summary_length,
            paired=paired,
            facts={**skips.facts(), **files.facts()},
            no_summaries=(
                " (summary=None)"
                if summary is None
                else f": no line has {summary!r}.{nearest(summary, self._keys)}\n"
                f"  keys of its lines: {known}; name the right one with summary="
            ),
        )

    def _record(self, line: bytes) -> Record:
        """Parse one line; a DataError says what is wrong with it."""
        try:
            values = json.loads(line)
        except UnicodeDecodeError as error:
            raise wrong_encoding(error) from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"not JSON: {error}") from error
        if not isinstance(values, dict):
            raise DataError(f"it is {type(values).__name__}, not an object")
        self._keys.update(dict.fromkeys(values))
        text = strip_text(_text_value(values, self._document))
        if not text:
            raise DataError(f"its {self._document!r} is empty")
        short = ""
        if self._summary_key is not None and values.get(self._summary_key) is not None:
            short = strip_text(_text_value(values, self._summary_key))
        label = None if self._label is None else _text_value(values, self._label)
        return Record(document=text, summary=short or None, label=label)


def _text_value(values: Mapping[str, Any], name: str) -> str:
    """Return a value that must be a text.

    Raises:
        DataError: it is missing, not a text, or holds half of a surrogate pair, which JSON can express and Unicode cannot.
    """
    if name not in values:
        raise DataError(
            f"it has no {name!r}, only {', '.join(map(repr, values)) or 'nothing'}.{nearest(name, values)}"
        )
    value = values[name]
    if not isinstance(value, str):
        raise DataError(f"its {name!r} is {type(value).__name__}, not a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"its {name!r} is not valid Unicode: {error.reason} at {error.start}") from error
    return value
