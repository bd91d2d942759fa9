"""Text for reprkit: text as a latent, critics that keep it readable, vocabularies, data sets, networks of transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from reprkit_text.embedding import embed
    from reprkit_text.summarizing import summarize
    from reprkit_text.transformers_networks.saving import save_pretrained
    from reprkit_text.word_vectors import WordVectors, word_vectors

__all__ = ["WordVectors", "embed", "save_pretrained", "summarize", "word_vectors"]

# Lazy imports: listing the plugin's parts needs no torch.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "embedding": ["embed"],
        "summarizing": ["summarize"],
        "transformers_networks.saving": ["save_pretrained"],
        "word_vectors": ["WordVectors", "word_vectors"],
    },
)
