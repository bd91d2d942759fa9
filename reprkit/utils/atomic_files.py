"""Atomic replacement of files and folders: write to a temporary sibling, flush it to disk, rename it."""

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
from typing import BinaryIO

from reprkit.errors import ReprkitError

_ATTEMPTS = 5  # at replacing a folder by two renames
_STALE = 3600.0  # seconds after which a temporary sibling is assumed to be left by a killed process


@contextmanager
def replace_folder(folder: str | Path, own_files: Collection[str] = ()) -> Iterator[Path]:
    """Yield a new folder that replaces ``folder`` when the block succeeds and is removed otherwise.

    Where the file system supports it (Linux), the two folders are exchanged in one system call, so that the folder always
    exists.  Elsewhere the old one is first renamed to ``.NAME.old``; ``recover_folder`` restores it if the process dies in between.

    Args:
        folder: the path to replace; it may exist.
        own_files: names of the files that the caller writes; all other files of an existing folder are copied over.

    Raises:
        OSError: it cannot be written; the existing folder is unchanged.
    """
    fresh = create_sibling(folder)
    try:
        yield fresh
        target = _real(folder)
        for existing in target.iterdir() if target.exists() else ():
            if existing.name not in own_files and not (fresh / existing.name).exists():
                _copy(existing, fresh / existing.name)
        put_in_place(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # half-written, or the old one after the exchange


def create_sibling(folder: str | Path) -> Path:
    """Create a temporary folder beside ``folder``, to be filled and passed to ``put_in_place``.

    Raises:
        OSError: it cannot be created.
    """
    target = _real(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target)
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    fresh.mkdir()
    return fresh


def put_in_place(fresh: Path, folder: str | Path) -> None:
    """Flush a temporary folder to the disk, and replace ``folder`` by it; the old one then has the temporary name, or is gone.

    Raises:
        OSError: it cannot be flushed or renamed; the existing folder is unchanged.
    """
    flush(fresh)
    _swap(fresh, _real(folder))


def remove_siblings(parent: Path, pattern: str) -> None:
    """Remove the temporary folders of processes that were killed; only where no other process can be writing one.

    Args:
        parent: the folder in which they are.
        pattern: of the names of the folders that they were to replace, such as ``step-*``.
    """
    for leftover in parent.glob(f".{pattern}.*.new"):
        shutil.rmtree(leftover, ignore_errors=True)


def _real(folder: str | Path) -> Path:
    target = recover_folder(folder)
    return target.resolve() if target.is_symlink() else target.absolute()


def recover_folder(folder: str | Path) -> Path:
    """Return the folder's path, after undoing a replacement that was interrupted between its two renames."""
    path = Path(folder)
    if path.name in ("", ".."):  # "." has no name that could be changed
        path = path.resolve()
    old = path.with_name(f".{path.name}.old")
    if path.name and not path.exists() and old.is_dir():
        with suppress(FileNotFoundError):  # another process was faster
            old.rename(path)
    return path


def require_absent(path: str | Path, overwrite: bool, error: type[ReprkitError]) -> None:
    """Check that a file may be written, before its content is computed.

    Raises:
        error: the file exists and is not to be replaced, or the path is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise error(f"{str(path)!r} is a folder, and a file is to be written")
    if target.exists() and not overwrite:
        raise error(
            f"{str(path)!r} exists already; nothing was written. To replace it: overwrite=True (--overwrite)"
        )


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file atomically."""
    return write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file atomically."""
    with replace_file(path) as file:
        file.write(data)
    return Path(path)


@contextmanager
def replace_file(path: str | Path) -> Iterator[BinaryIO]:
    """Yield a new file, open for writing, that replaces ``path`` when the block succeeds and is removed otherwise."""
    target = Path(path)
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    try:
        with fresh.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def explain_os_error(error: BaseException) -> str:
    """Describe an OSError; a full disk is described the same way on all platforms."""
    text = str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
        return "no space left on the disk"
    return text


def flush(folder: Path) -> None:
    """Flush a folder's files and directory entries to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)
    for path in (*(child for child in folder.rglob("*") if child.is_dir()), folder):
        _sync(path)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder and needs no flush of its entries
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def _swap(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
    elif not _exchange(fresh, target):
        old = target.with_name(f".{target.name}.old")
        for attempt in range(_ATTEMPTS):
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            try:
                fresh.rename(target)
                break
            except OSError:  # a reader has found the folder missing, and restored it
                if attempt + 1 == _ATTEMPTS or not target.exists():
                    raise
        shutil.rmtree(old, ignore_errors=True)
    _sync(target.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two paths atomically (renameat2, Linux 3.15); return False where that is not supported."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # an old C library
        return False
    current_folder, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2(current_folder, os.fsencode(first), current_folder, os.fsencode(second), exchange) == 0


def _remove_stale(target: Path) -> None:
    """Remove temporary siblings that killed processes left behind."""
    for leftover in target.parent.glob(f".{target.name}.*.new"):
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _STALE:
                shutil.rmtree(leftover, ignore_errors=True)
