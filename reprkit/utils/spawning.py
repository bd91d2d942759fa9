"""Start Python processes that do not import modules from the current folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "PYTHONSAFEPATH"
_SET_BY_REPRKIT = "reprkit"  # Python only tests whether the variable is empty; the value records who set it
_lock = threading.RLock()


@contextmanager
def safe_path() -> Iterator[None]:
    """Context in which processes started by multiprocessing do not import modules from the current folder.

    ``spawn``, ``forkserver`` and the resource tracker run ``python -c``, which puts the current folder first on
    ``sys.path`` until the parent's path arrives: a file ``multiprocessing.py`` there would be run.  For ``subprocess``, pass
    ``-P`` instead.  ``python -E`` ignores the variable; ``python -EP`` or ``-I`` does the same.

    The target in the new process must call ``keep_safe_path_local`` first.
    """
    with _lock:  # two threads must not restore each other's value
        previous = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = previous or _SET_BY_REPRKIT
        try:
            yield
        finally:
            if previous is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = previous


def keep_safe_path_local() -> None:
    """Unset the variable of ``safe_path`` in a new process: its own children, ``python script.py``, find their folder."""
    if os.environ.get(_VARIABLE) == _SET_BY_REPRKIT:
        del os.environ[_VARIABLE]
