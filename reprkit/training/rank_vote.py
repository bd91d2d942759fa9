"""Joint decisions of all ranks, and the signals that stop a run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from reprkit.utils import collectives


class RankVote:
    """Maximum of all ranks' flags, one round late: a round is sent after a step and read after the next one.

    So no step waits for the network, and all ranks see the same flags after the same step.  In one process a round is read
    immediately.  The exchange has its own process group on the CPU, apart from the gradients'.
    """

    def __init__(self, flags: int) -> None:
        self._alone = collectives.world_size() == 1
        self._group = None if self._alone else dist.new_group(backend="gloo")
        self._none = (0,) * flags
        self._sent: tuple[torch.Tensor, Any] | None = None

    def exchange(self, *flags: int) -> tuple[int, ...]:
        """Send this rank's flags; return the maximum of those sent before."""
        if self._alone:
            return flags
        result = self._read()
        value = torch.tensor(flags, dtype=torch.int64)
        self._sent = value, dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return result

    def exchange_now(self, *flags: int) -> tuple[int, ...]:
        """Exchange flags and wait for this round's result: for the end of a run."""
        if self._alone:
            return flags
        before = self.exchange(*flags)
        return tuple(max(pair) for pair in zip(before, self._read(), strict=True))

    def close(self) -> None:
        """Destroy the process group; all ranks must call it."""
        if self._group is not None and dist.is_initialized():
            dist.destroy_process_group(self._group)
            self._group = None

    def _read(self) -> tuple[int, ...]:
        if self._sent is None:
            return self._none
        (value, work), self._sent = self._sent, None
        work.wait()
        return tuple(value.tolist())


# How a run is stopped, besides by a signal; below every signal's number, since the highest of all ranks counts.
TIME_IS_UP = 1
_TERM_AND_INT = (signal.SIGTERM, signal.SIGINT)
# What batch systems send before they end or preempt a job; not on Windows.
WARNING_SIGNAL: signal.Signals | None = getattr(signal, "SIGUSR1", None)


class Signals:
    """The signal received: SIGTERM, SIGINT or SIGUSR1, 0 for none.  A second SIGINT interrupts immediately.

    A handler of SIGUSR1 that the program itself has installed stays.
    """

    def __init__(self) -> None:
        self.received = 0

    @contextmanager
    def listen(self) -> Iterator[Signals]:
        """Install signal handlers for a block; does nothing outside of the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.getsignal(number) for number in _TERM_AND_INT}
        if WARNING_SIGNAL is not None:
            handler = signal.getsignal(WARNING_SIGNAL)
            if handler in (signal.SIG_DFL, signal.SIG_IGN):
                before[WARNING_SIGNAL] = handler
        for number in before:
            signal.signal(number, self._note)
        try:
            yield self
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) == self._note:
                    signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.received == signal.SIGINT:
                raise KeyboardInterrupt
            os.write(2, b"\nsaving after this step, then stopping; Ctrl-C again stops at once\n")
        self.received = number
