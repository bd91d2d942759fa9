"""A progress bar with rate and time left: only on a terminal, only for what takes over a second, redrawn a few times a second."""

from __future__ import annotations

import sys
import time
from typing import Any

PATIENCE = 1.0  # seconds before a bar appears
PERIOD = 0.2  # seconds between two drawings


class Bar:
    """Progress towards ``total`` steps.

    Args:
        title: what is under way.
        total: number of steps.
        show: None shows it on a terminal only; True and False decide.
    """

    def __init__(self, title: str, total: int, show: bool | None = None) -> None:
        self.title, self.total, self.start = title, total, 0
        self._shown = sys.stdout.isatty() if show is None else show
        self._next = time.monotonic() + PATIENCE
        self._began = time.monotonic()
        self._before = (self._began, 0)
        self._bar: Any = None
        self._task: Any = None
        self._note = ""

    def begin(self, done: int) -> None:
        """Say where it starts."""
        self.start, self._began = done, time.monotonic()
        self._before = (self._began, done)

    def note(self, text: str) -> None:
        """What stands beside the bar, such as the last logged loss."""
        self._note = text

    def advance(self, done: int) -> None:
        """Tell how many steps are done; cheap enough for every step."""
        if not self._shown or time.monotonic() < self._next:
            return
        now = time.monotonic()
        self._next = now + PERIOD
        if self._bar is None and not self._open():
            return
        then, steps = self._before
        self._before = now, done
        self._draw(done, _rate(done - steps, now - then))

    def close(self, done: int | None = None) -> None:
        """Take the bar down; its last state, of ``done`` steps, stays on the screen, with the rate of them all."""
        if self._bar is not None:
            if done is not None:
                self._draw(done, _rate(done - self.start, time.monotonic() - self._began))
            self._bar.stop()
            self._bar = None

    def _draw(self, done: int, rate: str) -> None:
        self._bar.update(self._task, completed=done, note=self._note, rate=rate)
        self._bar.refresh()

    def _open(self) -> bool:
        from rich import progress
        from rich.errors import LiveError

        bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
            auto_refresh=False,
        )
        try:
            bar.start()
        except LiveError:  # another bar has the terminal (rich before 14.1 allows one)
            self._shown = False
            return False
        self._bar = bar
        self._task = bar.add_task(self.title, total=self.total, completed=self.start, note="", rate="")
        return True


def _rate(steps: int, seconds: float) -> str:
    rate = steps / max(seconds, 1e-9)
    return f"{rate:.0f}/s" if rate >= 10 else f"{rate:.2g}/s"
