"""Documents of one's own: JSON lines, with human summaries where there are some."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from reprkit.data.corrupt_files import CorruptFiles
from reprkit.data.formats.text_files import TextFiles
from reprkit.errors import DataError, nearest
from reprkit.registry.constraints import Count, Share
from reprkit_text.data.documents_in_memory import Texts
from reprkit_text.data.records import Record, written
from reprkit_text.vocabulary import Vocabulary

SUFFIXES = frozenset((".jsonl", ".ndjson"))


class Documents(Texts):
    """A JSON Lines file, or all .jsonl and .ndjson files below a folder: one object a line, with ``document`` and ``summary``.

    Fields: ``x`` tokens (t,), the document; ``summary`` tokens (t,), the human summary of **another** document, where there are
    summaries; ``label``, where one is named.  Training never sees a pair: who belongs to whom is known to ``pairs()`` of a
    valid or test part alone.  ``split`` keeps documents of equal text in one part, and with each the document whose summary is
    shown beside it.

    A line that is no JSON object, no valid UTF-8, or whose document is missing, no text or empty is left out, counted and
    named.  A document without a summary, or with an empty one, is kept: another's is shown beside it.

    Args:
        path: a file (any suffix), or a folder.
        tokenizer: "byte-pair(vocab=4000)", "characters", or the path of a Hugging Face ``tokenizer.json``; trained on these
            texts (all parts of them).
        document: the name of the document in a line.
        summary: the name of the human summary; None leaves summaries away.
        label: the name of a class, a text; None for none.
        length: symbols of a document at most; the rest is cut off and counted (``cut_count``).  None: all.
        summary_length: the same of a summary.
        paired: show each document its own summary: for a supervised model.
        max_corrupt: the largest share of broken lines that is left out; more is an error.

    Raises:
        DataError: no such file, no documents, no line with that name of a document or label, too many broken lines, or a single
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
        max_corrupt: Share = 0.01,
    ) -> None:
        skips, files = CorruptFiles("documents", max_corrupt), TextFiles(path, SUFFIXES, "JSON Lines files")
        self._document, self._of, self._label = document, summary, label
        self._seen: dict[str, None] = {}
        records: list[Record] = []
        files.index(lambda line: records.append(self._record(line)), skips)
        known = ", ".join(map(repr, self._seen))
        super().__init__(
            records,
            tokenizer,
            name=files.name,
            length=length,
            summary_length=summary_length,
            paired=paired,
            facts=skips.facts(),
            unsummarised=(
                " (summary=None)"
                if summary is None
                else f": no line has {summary!r}.{nearest(summary, self._seen)}\n"
                f"  its lines have: {known}; say which it is with summary="
            ),
        )

    def _record(self, line: bytes) -> Record:
        """One line, or a DataError that says what is wrong with it."""
        try:
            held = json.loads(line)
        except UnicodeDecodeError as error:
            raise DataError(f"no valid UTF-8: {error.reason} at byte {error.start}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"no JSON: {error}") from error
        if not isinstance(held, dict):
            raise DataError(f"it is {type(held).__name__}, not an object")
        self._seen.update(dict.fromkeys(held))
        text = written(_text(held, self._document))
        if not text:
            raise DataError(f"its {self._document!r} is empty")
        short = ""
        if self._of is not None and held.get(self._of) is not None:
            short = written(_text(held, self._of))
        label = None if self._label is None else _text(held, self._label)
        return Record(document=text, summary=short or None, label=label)


def _text(held: Mapping[str, Any], name: str) -> str:
    """A value that is a text.

    Raises:
        DataError: it is missing, no text, or holds half of a surrogate pair, which JSON can write and Unicode cannot.
    """
    if name not in held:
        raise DataError(
            f"it has no {name!r}, only {', '.join(map(repr, held)) or 'nothing'}.{nearest(name, held)}"
        )
    value = held[name]
    if not isinstance(value, str):
        raise DataError(f"its {name!r} is {type(value).__name__}, not a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"its {name!r} is no valid Unicode: {error.reason} at {error.start}") from error
    return value
