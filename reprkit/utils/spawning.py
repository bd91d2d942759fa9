"""New Python processes that do not import modules from the current folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "PYTHONSAFEPATH"
_OURS = "reprkit"  # Python asks only whether the variable is empty; the value says who set it
_lock = threading.RLock()


@contextmanager
def safe_path() -> Iterator[None]:
    """Processes that multiprocessing starts inside this block do not import modules from the current folder.

    ``spawn``, ``forkserver`` and the resource tracker run ``python -c``, which puts the current folder first on
    ``sys.path`` until the parent's path arrives: a file ``multiprocessing.py`` there would be run.  A process started by
    ``subprocess`` is given ``-P`` instead.  ``python -E`` ignores the variable; ``python -EP`` or ``-I`` does the same.

    The target in the new process calls ``keep_safe_path_local`` first.
    """
    with _lock:  # two threads must not restore each other's value
        before = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = before or _OURS
        try:
            yield
        finally:
            if before is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = before


def keep_safe_path_local() -> None:
    """In a process started under ``safe_path``: what it starts itself, as ``python script.py``, finds its own folder."""
    if os.environ.get(_VARIABLE) == _OURS:
        del os.environ[_VARIABLE]
