"""English text that every Python has: the topics of its help."""

from __future__ import annotations

import functools
import re


@functools.cache
def topic_words() -> tuple[tuple[str, ...], ...]:
    """Return the words of each topic, in prose: without code, and without words of signs that few fonts have.

    Topics are in the order of their names; those with fewer than 60 such words are left out.
    """
    from pydoc_data.topics import topics

    found = []
    for _, text in sorted(topics.items()):
        words = [word for word in text.split() if re.fullmatch(r"[A-Za-z]+(-[a-z]+)?[.,;:]?", word)]
        if len(words) >= 60:
            found.append(tuple(words))
    return tuple(found)
