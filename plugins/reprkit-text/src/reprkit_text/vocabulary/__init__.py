"""Vocabularies: text to symbols and back, trained on the user's own data."""

from reprkit_text.vocabulary.resolve import vocabulary
from reprkit_text.vocabulary.vocabulary import Vocabulary

__all__ = ["Vocabulary", "vocabulary"]
