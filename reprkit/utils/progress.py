"""Progress of long operations: a bar on a terminal (rich), occasional lines elsewhere; nothing for short operations."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = 1.0  # seconds before a bar appears
TITLE = 40  # maximum width of a title on a terminal, in columns
PERIOD = 0.2  # seconds between two redraws
LINE_PERIOD = 30.0  # seconds between two lines of all bars together, without a terminal

_last_line = time.monotonic()


class ProgressBar:
    """Progress bar over ``total`` steps.

    It is on standard error, so that standard output can be parsed: on a terminal a bar with rate and remaining time, elsewhere (a
    pipe, a batch system's log) a line every 30 seconds over all bars together.

    Args:
        title: name of the operation; each kind of operation has its own.
        total: number of steps; None if unknown.
        show: None chooses between bar and lines; False shows nothing; True draws the bar even without a terminal.
        transient: remove the bar from the screen when it is closed.
    """

    def __init__(
        self, title: str, total: int | None, show: bool | None = None, *, transient: bool = False
    ) -> None:
        self.title, self.total, self.transient = title, total, transient
        self._shown = show is not False
        self._lines = show is None and not sys.stderr.isatty()
        self._began = time.monotonic()
        self._next = self._began + PATIENCE
        self._start, self._before = 0, (self._began, 0)
        self._bar: Any = None
        self._task: Any = None
        self._note = ""

    def begin(self, done: int) -> None:
        """Set the step at which the operation starts."""
        self._start, self._began = done, time.monotonic()
        self._before = (self._began, done)

    def note(self, text: str) -> None:
        """Set the text beside the bar, such as the last logged loss."""
        self._note = text

    def advance(self, done: int) -> None:
        """Set the number of completed steps; cheap enough to call at every step."""
        if not self._shown or time.monotonic() < self._next:
            return
        now = time.monotonic()
        self._next = now + PERIOD
        if self._lines and now < _last_line + LINE_PERIOD:
            return
        if not self._lines and self._bar is None and not self._open():
            return
        previous_time, steps = self._before
        self._before = now, done
        speed = (done - steps) / max(now - previous_time, 1e-9)
        if self._lines:
            self._write(self._line(done, speed), now)
        else:
            self._draw(done, speed)

    def close(self, done: int | None = None) -> None:
        """Close the bar.  If ``done`` is given, the final state shows that many steps and their mean rate."""
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
        pieces = [f"{self.title}: {done}" + ("" if self.total is None else f" of {self.total}"), _rate(speed)]
        if self.total is not None and speed > 0:
            minutes, seconds = divmod(round((self.total - done) / speed), 60)
            pieces.append(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d} left")
        return ", ".join([*pieces, self._note] if self._note else pieces)

    def _draw(self, done: int, speed: float) -> None:
        self._bar.update(self._task, completed=done, note=self._note, rate=_rate(speed))
        self._bar.refresh()

    def _open(self) -> bool:
        from rich import progress
        from rich.console import Console
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
            console=Console(stderr=True),
            auto_refresh=False,
            transient=self.transient,
        )
        try:
            bar.start()
        except LiveError:  # another bar uses the terminal (rich before 14.1 allows only one)
            self._shown = False
            return False
        self._bar = bar
        self._task = bar.add_task(self.title, total=self.total, completed=self._start, note="", rate="")
        return True


def track_progress(
    items: Iterable[T], title: str, *, total: int | None = None, show: bool | None = None
) -> Iterator[T]:
    """Iterate over items with a progress bar, which only rank 0 shows.

    Args:
        items: what to iterate over.
        title: text beside the bar.
        total: number of items; by default their length, if they have one.
        show: as in ``ProgressBar``.
    """
    from reprkit.utils import collectives

    if total is None and isinstance(items, Sized):
        total = len(items)
    bar = ProgressBar(title, total, show if collectives.is_main() else False, transient=True)
    try:
        for done, item in enumerate(items):
            bar.advance(done)
            yield item
    finally:
        bar.close()


def _rate(speed: float) -> str:
    return f"{speed:.0f}/s" if speed >= 10 else f"{speed:.2g}/s"
