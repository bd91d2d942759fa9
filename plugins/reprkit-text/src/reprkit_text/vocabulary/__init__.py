"""Vocabularies: from text to symbols and back, made of the user's own data."""

from reprkit_text.vocabulary.choosing import vocabulary
from reprkit_text.vocabulary.vocabulary import Vocabulary

__all__ = ["Vocabulary", "vocabulary"]
