"""How a run is stopped before its end: the signals that ask for it, and the exit code of the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGTERM_EXIT = 128 + signal.SIGTERM  # 143, a shell's exit code of a process ended by SIGTERM
# The exit code of a run that was stopped by a time limit or SIGUSR1: its state is saved, and a resume continues (EX_TEMPFAIL).
UNFINISHED_EXIT = 75

# The reason for a stop that is not a signal; below every signal's number, since the highest of all ranks counts.
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


def stop_process(reason: int, done: int, steps: int, *, say: bool) -> NoReturn:
    """End the process after ``done`` of ``steps`` steps, whose state is saved.

    Args:
        reason: a signal's number, or TIME_IS_UP.
        done: steps that are done.
        steps: of the run.
        say: whether to print that the run is unfinished; on the first rank only.

    Raises:
        KeyboardInterrupt: after SIGINT.
        SystemExit: with SIGTERM_EXIT after SIGTERM, with UNFINISHED_EXIT otherwise.
    """
    if reason == signal.SIGINT:
        raise KeyboardInterrupt(f"stopped after step {done}; the state is saved")
    if reason == signal.SIGTERM:
        raise SystemExit(SIGTERM_EXIT)
    if say:
        cause = "the time limit is near" if reason == TIME_IS_UP else "SIGUSR1"
        print(
            f"\n{cause}: stopped after step {done:,} of {steps:,}; the state is saved, and --resume continues",
            file=sys.stderr,
            flush=True,
        )
    raise SystemExit(UNFINISHED_EXIT)
