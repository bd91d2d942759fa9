"""The user's cache folder, for files that plugins download or compute once; never inside the repository."""

from __future__ import annotations

import os
from pathlib import Path

from reprkit.utils.atomic_files import write_bytes


def cache_folder(name: str) -> Path:
    """Return ``$REPRKIT_CACHE/NAME``, or ``reprkit/NAME`` in the platform's cache folder (``~/.cache`` on Linux)."""
    configured = os.environ.get("REPRKIT_CACHE")
    if configured:
        return Path(configured).expanduser() / name
    import platformdirs

    return platformdirs.user_cache_path("reprkit", appauthor=False) / name


def write_cached(path: Path, content: bytes) -> bool:
    """Write a file atomically and return whether that succeeded; a cache that cannot be written is not an error.

    Several processes may write the same file at once: the last write wins, and no reader sees a partial file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError:
        return False
    return True
