"""Folders and files that appear whole or not at all: written beside their place, flushed to the disk, renamed."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_STALE = 3600.0  # seconds after which a half-written sibling is taken for the leaving of a killed process


@contextmanager
def replace_folder(folder: str | Path, mine: Collection[str] = ()) -> Iterator[Path]:
    """A new folder to fill; it takes the place of ``folder`` when the block ends well, else it is removed.

    At no moment is there no folder: the two are exchanged in one system call where the file system can (Linux), else the old
    one waits as ``.NAME.old``, from where ``recover_folder`` brings it back if the process dies in between.

    Args:
        folder: the place; it may exist.
        mine: names of the files that the caller writes; every other file of an existing folder is carried over.

    Raises:
        OSError: it cannot be written; the existing folder is as it was.
    """
    place = recover_folder(folder)
    place = place.resolve() if place.is_symlink() else place.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    fresh = place.with_name(f".{place.name}.{secrets.token_hex(4)}.new")
    fresh.mkdir()
    try:
        yield fresh
        for kept in place.iterdir() if place.exists() else ():
            if kept.name not in mine and not (fresh / kept.name).exists():
                _carry(kept, fresh / kept.name)
        flush(fresh)
        _swap(fresh, place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # half-written, or the old one after the exchange


def recover_folder(folder: str | Path) -> Path:
    """The folder's path, after undoing a replacement that was cut short on a file system without exchange."""
    place = Path(folder)
    old = place.with_name(f".{place.name}.old")
    if place.name and not place.exists() and old.is_dir():
        with suppress(FileNotFoundError):  # another process was faster
            old.rename(place)
    return place


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file whole or not at all."""
    return write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file whole or not at all."""
    place = Path(path)
    fresh = place.with_name(f".{place.name}.{secrets.token_hex(4)}.new")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(place)
    finally:
        fresh.unlink(missing_ok=True)
    return place


def explain_os_error(error: BaseException) -> str:
    """An error of the disk in words."""
    text = str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
        return "no space left on the disk"
    return text


def flush(folder: Path) -> None:
    """Force a folder's files, and their names, onto the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)
    for path in (*(each for each in folder.rglob("*") if each.is_dir()), folder):
        _sync(path)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder, and needs no flush of its names
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _carry(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _swap(fresh: Path, place: Path) -> None:
    if not place.exists():
        fresh.rename(place)
    elif not _exchange(fresh, place):
        old = place.with_name(f".{place.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        place.rename(old)
        fresh.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    _sync(place.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths atomically (renameat2, Linux 3.15); False where it cannot be done."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # an old C library
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _sweep(place: Path) -> None:
    """Remove what killed processes left half-written beside the place."""
    for left in place.parent.glob(f".{place.name}.*.new"):
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _STALE:
                shutil.rmtree(left, ignore_errors=True)
