"""Refuse paths that are neither files nor folders: a pipe blocks whoever opens it, and a device may never end."""

from __future__ import annotations

from pathlib import Path

from reprkit.errors import DataError


def check_regular(path: Path) -> Path:
    """Return the path of a file, of a folder, or of nothing.

    Raises:
        DataError: it is a pipe, a device or a socket, or a link to one.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise DataError(
            f"{str(path)!r} is neither a file nor a folder (a pipe, a device or a socket), and is not opened"
        )
    return path
