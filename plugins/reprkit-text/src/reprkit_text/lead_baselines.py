"""Baseline summaries without a model: the first words, a sentence, or random words of the document."""

from __future__ import annotations

import random
import re

# A sentence ends with its punctuation and the space after it; so does a paragraph.
_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")


def split_sentences(document: str) -> list[str]:
    """Split a document into sentences, in order; at least one."""
    return [sentence for sentence in _END.split(document.strip()) if sentence] or [document.strip()]


def first_words(document: str, words: int) -> str:
    """Return the first ``words`` words."""
    return " ".join(document.split()[:words])


def baseline_summaries(document: str, draw: random.Random, words: int = 10) -> dict[str, str]:
    """Return summaries by name: lead-8, lead-10, lead-sentence, random-words (``words``, in order), random-sentence."""
    sentences, all_words = split_sentences(document), document.split()
    chosen = sorted(draw.sample(range(len(all_words)), min(words, len(all_words))))
    return {
        "lead-8": first_words(document, 8),
        "lead-10": first_words(document, 10),
        "lead-sentence": sentences[0],
        "random-words": " ".join(all_words[index] for index in chosen),
        "random-sentence": draw.choice(sentences),
    }
