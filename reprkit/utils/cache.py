"""Where plugins keep what they fetched, made or worked out once: a folder of the user's, never the repository."""

from __future__ import annotations

import os
from pathlib import Path

from reprkit.utils.atomic_files import write_bytes


def cache_folder(name: str) -> Path:
    """``$REPRKIT_CACHE/NAME``, or ``reprkit/NAME`` in the platform's cache folder (``~/.cache`` on Linux)."""
    own = os.environ.get("REPRKIT_CACHE")
    if own:
        return Path(own).expanduser() / name
    import platformdirs

    return platformdirs.user_cache_path("reprkit", appauthor=False) / name


def write_cached(path: Path, content: bytes) -> bool:
    """Write a file whole and say whether that worked: a cache that cannot be written costs time, not the result.

    Several processes may keep the same file at once: the last one's stands, and nobody reads half of it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError:
        return False
    return True
