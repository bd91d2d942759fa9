"""When one rank fails, the others end with its message, which they get through the store of the process group.

The other ranks learn of a failure by a broken connection, which says nothing of the cause, or not at all, while they wait in a
collective.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import torch.distributed as dist

from reprkit.errors import ReprkitError, TrainingError

POLL = 0.5  # seconds between two looks at the store
GRACE = 15.0  # seconds that a rank has to end by itself after another one has failed
TIMEOUT = 5.0  # seconds to wait for the cause of a broken connection, and for the others to read ours
_FAILED, _LEFT, _SEEN = "failed", "left", "seen"
_BROKEN = re.compile(r"gloo|nccl|process ?group", re.IGNORECASE)  # in messages of broken collectives


class RankFailures:
    """The failures of the ranks of one loop; does nothing on one process.

    Args:
        rank: of this process.
        ranks: number of processes.
        record: called with the message of the rank that failed first, to write it into the run's record.
        store: shared by the ranks; None for that of the default process group.
    """

    def __init__(self, rank: int, ranks: int, record: Callable[[str], Any], store: Any = None) -> None:
        self._rank, self._ranks, self._record = rank, ranks, record
        self._store: Any = None
        self._closed = threading.Event()
        self._noted: BaseException | None = None
        if ranks == 1:
            return
        shared = dist.distributed_c10d._get_default_store() if store is None else store
        number = shared.add(f"reprkit/loops of process {rank}", 1)  # the same on all ranks
        self._store = dist.PrefixStore(f"reprkit/loop {number}", shared)
        threading.Thread(target=self._watch, daemon=True, name="reprkit rank failures").start()

    def note(self, error: BaseException | None) -> None:
        """Remember an error of a call in the loop's body: the reason, if the body ends with it.  None forgets it."""
        self._noted = error

    def publish(self, error: BaseException) -> None:
        """Tell the other ranks why this one fails, and wait until they have read it."""
        if self._store is None:
            return
        try:
            own = json.dumps([self._rank, describe(error)])
            if self._store.compare_set(_FAILED, "", own).decode() != own:
                return  # another one was first
            end = time.monotonic() + TIMEOUT
            while time.monotonic() < end and self._store.add(_SEEN, 0) < self._ranks - 1:
                time.sleep(0.05)
        except Exception:  # the process that hosts the store has ended
            return

    def leave(self, step: int) -> None:
        """Tell the other ranks that the body of the loop has ended early, by a break or an error.

        Which of the two it was is known only when the program exits.
        If another rank has failed, that is the reason, and it is recorded.
        """
        if self._store is None:
            return
        failed = self._read(_FAILED)
        if failed is not None and failed[0] != self._rank:
            self._record(f"process {failed[0]} failed first: {failed[1]}")
            return
        error = self._noted
        if error is not None:
            self.publish(error)
            return
        try:
            text = f"it left the loop at step {step}, by a break or an error"
            self._store.compare_set(_LEFT, "", json.dumps([self._rank, text]))
        except Exception:
            return
        atexit.register(self._publish_at_exit)

    def explain(self, error: BaseException) -> TrainingError | None:
        """Return the error of the rank that failed first, if that is why this one fails, and record it; None otherwise."""
        if self._store is None or isinstance(error, ReprkitError):
            return None
        broken = isinstance(error, dist.DistError) or bool(_BROKEN.search(str(error)))
        first = self._first(TIMEOUT if broken else 0.0)
        if first is None and not broken:
            return None
        if first is None:
            reason = " ".join(str(error).split())[:200]
            text = f"another process ended without a message; it may have been killed ({reason})"
        else:
            text = f"process {first[0]} failed first: {first[1]}"
        self._record(text)
        return TrainingError(text)

    def close(self) -> None:
        """Stop watching: this rank leaves the loop."""
        self._closed.set()

    def _first(self, timeout: float) -> tuple[int, str] | None:
        """Return rank and message of the first failure of another rank, or of one that left."""
        end = time.monotonic() + timeout
        while (found := self._read(_FAILED)) is None and time.monotonic() < end:
            time.sleep(0.05)
        found = found or self._read(_LEFT)
        return None if found is None or found[0] == self._rank else found

    def _read(self, key: str) -> tuple[int, str] | None:
        try:
            if not self._store.check([key]):
                return None
            rank, text = json.loads(self._store.get(key))
        except Exception:  # the process that hosts the store has ended
            return None
        return int(rank), str(text)

    def _watch(self) -> None:
        while (found := self._read(_FAILED)) is None:
            if self._closed.wait(POLL):
                return
        if found[0] == self._rank:
            return
        with contextlib.suppress(Exception):  # the process that hosts the store has ended
            self._store.add(_SEEN, 1)
        if self._closed.wait(GRACE):
            return
        text = f"process {found[0]} failed first: {found[1]}"
        self._record(text)
        # The main thread waits in a collective that will not end, and no exception can reach it there.
        os.write(2, f"error: {text}\n".encode())
        os._exit(1)

    def _publish_at_exit(self) -> None:
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        if isinstance(error, Exception):
            self.publish(error)


def describe(error: BaseException) -> str:
    """Return the message of an error as ``run.json`` has it."""
    return f"{type(error).__name__}: {error}"
