"""Progress of long work: a bar on a terminal (rich), a line now and then elsewhere, both only for what takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = 1.0  # seconds before a bar appears
TITLE = 24  # columns that a title may take of a terminal
PERIOD = 0.2  # seconds between two drawings
LINE_PERIOD = 30.0  # seconds between two lines, whoever writes them, where there is no terminal

_last_line = time.monotonic()


class ProgressBar:
    """Progress towards ``total`` steps.

    On a terminal it is a bar on the standard output, with rate and time left.  Elsewhere (a pipe, a file of a batch system) it
    is a line on the standard error every 30 seconds, whatever is under way then; output that a program reads stays as it is.

    Args:
        title: what is under way; each kind of work has its own.
        total: number of steps, where it is known.
        show: None chooses between bar and lines; False shows nothing; True draws the bar without a terminal too.
        transient: take the bar off the screen when the work is done.
    """

    def __init__(
        self, title: str, total: int | None, show: bool | None = None, *, transient: bool = False
    ) -> None:
        self.title, self.total, self.transient = title, total, transient
        self._shown = show is not False
        self._lines = show is None and not sys.stdout.isatty()
        self._began = time.monotonic()
        self._next = self._began + PATIENCE
        self._start, self._before = 0, (self._began, 0)
        self._bar: Any = None
        self._task: Any = None
        self._note = ""

    def begin(self, done: int) -> None:
        """Say where it starts."""
        self._start, self._began = done, time.monotonic()
        self._before = (self._began, done)

    def note(self, text: str) -> None:
        """What stands beside the bar, such as the last logged loss."""
        self._note = text

    def advance(self, done: int) -> None:
        """Say how many steps are done; cheap enough for every step."""
        if not self._shown or time.monotonic() < self._next:
            return
        now = time.monotonic()
        self._next = now + PERIOD
        if self._lines and now < _last_line + LINE_PERIOD:
            return
        if not self._lines and self._bar is None and not self._open():
            return
        then, steps = self._before
        self._before = now, done
        speed = (done - steps) / max(now - then, 1e-9)
        if self._lines:
            self._write(self._line(done, speed), now)
        else:
            self._draw(done, speed)

    def close(self, done: int | None = None) -> None:
        """Take the bar down; its last state, of ``done`` steps, stays on the screen, with the rate of them all."""
        if self._bar is not None:
            if done is not None:
                self._draw(done, (done - self._start) / max(time.monotonic() - self._began, 1e-9))
            self._bar.stop()
            self._bar = None

    @staticmethod
    def _write(line: str, now: float) -> None:
        global _last_line
        _last_line = now
        print(line, file=sys.stderr, flush=True)

    def _line(self, done: int, speed: float) -> str:
        words = [f"{self.title}: {done}" + ("" if self.total is None else f" of {self.total}"), _rate(speed)]
        if self.total is not None and speed > 0:
            minutes, seconds = divmod(round((self.total - done) / speed), 60)
            words.append(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left")
        return ", ".join([*words, self._note] if self._note else words)

    def _draw(self, done: int, speed: float) -> None:
        self._bar.update(self._task, completed=done, note=self._note, rate=_rate(speed))
        self._bar.refresh()

    def _open(self) -> bool:
        from rich import progress
        from rich.errors import LiveError
        from rich.table import Column

        title = Column(no_wrap=True, overflow="ellipsis", max_width=TITLE)
        bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False, table_column=title),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
            auto_refresh=False,
            transient=self.transient,
        )
        try:
            bar.start()
        except LiveError:  # another bar has the terminal (rich before 14.1 allows one)
            self._shown = False
            return False
        self._bar = bar
        self._task = bar.add_task(self.title, total=self.total, completed=self._start, note="", rate="")
        return True


def track_progress(
    items: Iterable[T], title: str, *, total: int | None = None, show: bool | None = None
) -> Iterator[T]:
    """The items, with a bar as they are gone through; on the main process only.

    Args:
        items: what to go through.
        title: the words beside the bar.
        total: how many items; their length when they have one.
        show: as for ``ProgressBar``.
    """
    from reprkit.utils import collectives

    if total is None and isinstance(items, Sized):
        total = len(items)
    bar = ProgressBar(title, total, show if collectives.rank() == 0 else False, transient=True)
    try:
        for done, item in enumerate(items):
            bar.advance(done)
            yield item
    finally:
        bar.close()


def _rate(speed: float) -> str:
    return f"{speed:.0f}/s" if speed >= 10 else f"{speed:.2g}/s"
