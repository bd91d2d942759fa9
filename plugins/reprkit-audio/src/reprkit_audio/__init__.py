"""Speech for reprkit: data sets, front ends, vocoders, voice conversion and its measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from reprkit_audio.conversion import convert, convert_file

__all__ = ["convert", "convert_file"]

# Lazily: listing the plugin's parts needs no torch.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"conversion": ["convert", "convert_file"]}
)
