"""Speech for reprkit: data sets, front ends, vocoders, voice conversion and its measures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprkit_audio.conversion import convert, convert_file

__all__ = ["convert", "convert_file"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: listing the plugin's parts needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from reprkit_audio import conversion

    return getattr(conversion, name)
