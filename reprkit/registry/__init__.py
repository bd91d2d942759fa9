"""From names to parts: hooks, discovery of plugins, references, look-up, creation, and the built-in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from reprkit.registry.registry import Registry, default_registry, using_registry

__all__ = ["Registry", "default_registry", "using_registry"]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={"registry": ["Registry", "default_registry", "using_registry"]},
)
