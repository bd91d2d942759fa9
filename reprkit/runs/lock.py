"""The lock of a run's folder: the process that holds it owns the run.

The lock is an flock on ``OUT/.lock``, which the system releases when the process ends, however it ends.  A process id would not do:
a container starts again with the same host name and the same ids.  Does not import torch.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from reprkit.errors import TrainingError
from reprkit.runs.filenames import LOCK

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# A folder may be hostile: no link is followed, and a pipe is not waited for.
_OPEN_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_TIMEOUT = 1.0  # seconds: a reader that asks whether a run is alive holds the lock for an instant


@dataclass
class _Held:
    """A lock of this process: its file descriptor, and the writers that use it."""

    handle: int
    users: set[int] = field(default_factory=set)


_held: dict[str, _Held] = {}
_unsupported: set[str] = set()  # folders whose file system has no locks, each warned of once


class RunLock:
    """The lock of one run's folder.  Writers of one process share it, since the stages of a run follow each other.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, str(folder.resolve())

    def acquire(self) -> None:
        """Take the lock; does nothing if this writer holds it.  Where the file system has no locks, a warning says so.

        Raises:
            TrainingError: another process holds it, or the lock file cannot be created.
        """
        held = _held.get(self._key)
        if held is None:
            handle = self._open_and_lock()
            if handle is None:
                return
            held = _held[self._key] = _Held(handle)
        held.users.add(id(self))

    def release(self) -> None:
        """Release the lock, once no writer of this process uses it."""
        held = _held.get(self._key)
        if held is None:
            return
        held.users.discard(id(self))
        if not held.users:
            del _held[self._key]
            os.close(held.handle)

    @property
    def held(self) -> bool:
        """Whether this process holds the lock; False where the file system has no locks."""
        return self._key in _held

    def __del__(self) -> None:
        self.release()

    def _open_and_lock(self) -> int | None:
        path = self._folder / LOCK
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | _OPEN_FLAGS, 0o666)
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                os.close(handle)
                raise OSError(errno.EINVAL, "it is not a plain file")
        except OSError as error:
            raise TrainingError(f"cannot write {path}: {error.strerror or error}") from error
        try:
            locked = fcntl is not None and _lock(handle)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                os.close(handle)
                raise TrainingError(f"cannot lock {path}: {error.strerror or error}") from error
            reason = str(error.strerror or error)
        else:
            if locked:
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"{os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                return handle
            if fcntl is not None:
                owner = os.pread(handle, 200, 0).decode(errors="replace").strip()
                os.close(handle)
                process = f"process {owner}" if owner.isprintable() and owner else "another process"
                raise TrainingError(
                    f"{process} is training into {self._folder} right now: choose another out=, or stop that process"
                )
            reason = "this system has no flock"
        os.close(handle)
        if self._key not in _unsupported:
            _unsupported.add(self._key)
            warnings.warn(
                f"{self._folder} cannot be locked ({reason}): if another process trains into it at the same time, both are damaged "
                "and neither says so; use a folder on another disk, or one out= for each process",
                stacklevel=6,
            )
        return None


def is_locked(folder: str | Path) -> bool | None:
    """Whether a process holds the lock of a run's folder; None where that cannot be known: no lock file, or no locks."""
    if fcntl is None:
        return None
    try:
        handle = os.open(Path(folder) / LOCK, os.O_RDONLY | _OPEN_FLAGS)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(handle)
    return False


def _lock(handle: int) -> bool:
    end = time.monotonic() + _TIMEOUT
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        else:
            return True


def _close_in_child() -> None:
    """Close the locks in a forked process, such as a worker that loads data: a copy would hold them after its parent's death."""
    for held in _held.values():
        os.close(held.handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
