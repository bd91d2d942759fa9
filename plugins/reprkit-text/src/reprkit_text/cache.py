"""Where the plugin keeps what it fetched or worked out once: a folder of the user's, never the repository."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """``$REPRKIT_CACHE/text``, or ``reprkit/text`` in the platform's cache folder (``~/.cache`` on Linux)."""
    own = os.environ.get("REPRKIT_CACHE")
    root = Path(own).expanduser() if own else platformdirs.user_cache_path("reprkit", appauthor=False)
    return root / "text"


def keep(path: Path, content: bytes) -> bool:
    """Write a file in one go and say whether that worked: a cache that cannot be written costs time, not the result.

    Several processes may keep the same file at once: the last one's stands, and nobody reads half of it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        return False
    return True
