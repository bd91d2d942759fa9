"""Text for reprkit: text as a latent, and the critics that keep it readable; vocabularies, data sets, transformers' networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprkit_text.embedding import embed
    from reprkit_text.summarizing import summarize
    from reprkit_text.wrapped.saving import save_pretrained

_HOMES = {
    "embed": "embedding",
    "save_pretrained": "wrapped.saving",
    "summarize": "summarizing",
}

__all__ = ["embed", "save_pretrained", "summarize"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: listing the plugin's parts needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
