"""Debian's package index: descriptions as documents, their one-line synopses as human summaries, sections as classes."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from annotated_types import Predicate

from reprkit.errors import DataError
from reprkit.registry.constraints import Count, ascending
from reprkit_text import debian_index
from reprkit_text.data.documents_in_memory import InMemoryDocuments
from reprkit_text.data.records import Record, normalize_text
from reprkit_text.vocabulary import Vocabulary


class Debian(InMemoryDocuments):
    """Descriptions of Debian's packages, and their one-line synopses.

    Fields: ``x`` tokens (t,), a description; ``summary`` tokens (t,), the synopsis of **another** package; ``label``, the
    section of the package (names: ``classes``).  Training never sees a pair; ``pairs()`` of a valid or test part gives them.

    Packages built from one source repeat its first paragraph: of 64,000 descriptions 35,000 differ in it.  ``split`` keeps
    equal ones in one part, together with the packages whose synopses are shown with them.

    The default is a sample that comes with the plugin: 1,500 packages of Debian 12 with different first paragraphs.
    ``index="fetched"`` is the whole index; ``reprkit text fetch debian`` puts it into the cache.  Descriptions are under the
    licenses of their packages.

    Args:
        index: "sample" or "fetched".
        tokenizer: see ``documents``; trained on these texts (all parts of them).
        part: which part of a description is the document: the "first" paragraph, or the "whole".
        words: smallest and largest number of words of a document.
        distinct: keep only the first of several packages with the same first paragraph.
        sections: keep only packages of this many most frequent sections; None keeps all.
        length: largest number of symbols of a document; the rest is cut off and counted.  None: no limit.
        summary_length: the same for a synopsis.
        paired: show each document with its own synopsis, for a supervised model.

    Raises:
        DataError: the index has not been fetched, or is damaged, or no description has so many words.
        PartArgumentError: an argument out of its range.
    """

    def __init__(
        self,
        index: Literal["sample", "fetched"] = "sample",
        tokenizer: str | Vocabulary = "byte-pair(vocab=4000)",
        *,
        part: Literal["first", "whole"] = "first",
        words: Annotated[tuple[Count, Count], Predicate(ascending)] = (20, 200),
        distinct: bool = True,
        sections: Count | None = None,
        length: Count | None = 256,
        summary_length: Count | None = 32,
        paired: bool = False,
    ) -> None:
        about, rows = debian_index.read(
            debian_index.SAMPLE if index == "sample" else debian_index.cached_path()
        )
        records, groups = list[Record](), set[str]()
        for row in rows:
            first = row["paragraphs"].partition("\n\n")[0]
            text, group = first if part == "first" else row["paragraphs"], normalize_text(first)
            count = len(text.split())
            if not (words[0] <= count <= words[1] and row["synopsis"] and row["section"]) or (
                distinct and group in groups
            ):
                continue
            groups.add(group)
            records.append(Record(document=text, summary=row["synopsis"], label=row["section"], group=group))
        if sections is not None:
            counts = Counter(str(record.label) for record in records)
            frequent = sorted(counts, key=lambda name: (-counts[name], name))[:sections]
            records = [record for record in records if record.label in frequent]
        if not records:
            raise DataError(f"no description of the index has {words[0]} to {words[1]} words")
        super().__init__(
            records,
            tokenizer,
            name="debian" if index == "fetched" else "debian (sample)",
            length=length,
            summary_length=summary_length,
            paired=paired,
            facts={"release": about["release"]},
        )
