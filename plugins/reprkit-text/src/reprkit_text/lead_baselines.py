"""What needs no model to summarise a document: its first words, a sentence of it, words of it."""

from __future__ import annotations

import random
import re

# A sentence ends with its point and the space behind it; a new paragraph ends one, too.
_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")


def sentences(document: str) -> list[str]:
    """The sentences of a document, in order; at least one."""
    return [each for each in _END.split(document.strip()) if each] or [document.strip()]


def lead(document: str, words: int) -> str:
    """The first words."""
    return " ".join(document.split()[:words])


def without_a_model(document: str, draw: random.Random, words: int = 10) -> dict[str, str]:
    """Summaries by name: lead-8, lead-10, lead-sentence, random-words (``words`` of them, in their order), random-sentence."""
    parts, held = sentences(document), document.split()
    chosen = sorted(draw.sample(range(len(held)), min(words, len(held))))
    return {
        "lead-8": lead(document, 8),
        "lead-10": lead(document, 10),
        "lead-sentence": parts[0],
        "random-words": " ".join(held[place] for place in chosen),
        "random-sentence": draw.choice(parts),
    }
