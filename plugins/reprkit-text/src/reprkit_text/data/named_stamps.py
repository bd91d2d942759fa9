"""Tuxpaint's stamps: cut-outs of animals, food, tools and the like, with their names in many languages."""

from __future__ import annotations

import json
from typing import Annotated

from annotated_types import MinLen

from reprkit.errors import DataError, nearest
from reprkit.registry.constraints import Count, Width
from reprkit.utils.cache import cache_folder
from reprkit_text.data.captions import Captions
from reprkit_text.vocabulary import Vocabulary

_LANGUAGES = 12  # that an error names, those with the most names


class NamedStamps(Captions):
    """The cut-outs of Debian's tuxpaint-stamps-default with their names, on white, after ``reprkit vision fetch stamps``.

    The stamps are of many authors, under the GNU General Public License, version 2 or later; the package's ``copyright`` lies in
    the fetched folder, ``reprkit/vision/stamps`` of the cache.  ``split`` keeps stamps of one English name together, so names of
    the test part are unseen.  A stamp without a name in the languages is left out, counted and named.  Pictures that are not square
    have black borders.

    Fields: ``x`` image (size size 3), float32 in [0, 1]; ``text`` tokens (t,), the name.

    Args:
        size: width and height in pixels.
        languages: codes of the languages of the names, such as ``("en", "de")``: a pair for each name that a stamp has.
        tokenizer: see ``documents``; trained on these names.
        length: largest number of symbols of a name.

    Raises:
        DataError: the stamps have not been fetched, or no stamp has a name in one of the languages.
    """

    def __init__(
        self,
        size: Width = 64,
        languages: Annotated[tuple[str, ...], MinLen(1)] = ("en",),
        tokenizer: str | Vocabulary = "byte-pair(vocab=1000, lower=True, marks=True)",
        *,
        length: Count | None = 32,
    ) -> None:
        folder = cache_folder("vision") / "stamps"
        table = folder / "metadata.jsonl"
        if not table.is_file():
            had = " (those in the cache were fetched by an earlier version)" if folder.is_dir() else ""
            raise DataError(
                f"no names of stamps in {str(folder)!r}{had}\n  fetch them (161 MB, no root): reprkit vision fetch stamps"
            )
        rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
        counts: dict[str, int] = {}
        for row in rows:
            for code in set(row) - {"file_name", "text"}:
                counts[code] = counts.get(code, 0) + 1
        for code in languages:
            if code not in counts:
                most = sorted(counts, key=lambda known: (-counts[known], known))[:_LANGUAGES]
                raise DataError(
                    f"no stamp has a name in {code!r}.{nearest(code, counts)}\n  languages: {', '.join(most)} and others"
                )
        super().__init__(
            folder, size, tokenizer, text=languages, group="en", length=length, fit="pad", max_corrupt=1.0
        )
