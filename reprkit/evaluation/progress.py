"""A progress bar for work of over a second, on a terminal, on the main process; nothing otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

from reprkit import distributed

T = TypeVar("T")
PATIENCE = 1.0  # seconds before a bar appears


def tracked(
    items: Iterable[T], what: str, *, total: int | None = None, show: bool | None = None
) -> Iterator[T]:
    """The items, with a bar that appears once they have taken over a second.

    Args:
        items: what to go through.
        what: the words beside the bar.
        total: how many items; their length when they have one.
        show: False never draws it; None draws it on a terminal.
    """
    wanted = sys.stdout.isatty() if show is None else show
    if not wanted or distributed.rank() != 0:
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    bar: Any = None
    started = time.monotonic()
    try:
        for done, item in enumerate(items):
            if bar is None and time.monotonic() - started > PATIENCE:
                bar = _Bar(what, total)
            if bar is not None:
                bar.move(done)
            yield item
    finally:
        if bar is not None:
            bar.close()


class _Bar:
    """rich's bar; none where another display holds the terminal (rich before 14.1 allows only one)."""

    def __init__(self, what: str, total: int | None) -> None:
        from rich.errors import LiveError
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.progress: Progress | None = Progress(*columns, transient=True)
        try:
            self.progress.start()
        except LiveError:
            self.progress = None
            return
        self.task = self.progress.add_task(what, total=total)

    def move(self, done: int) -> None:
        if self.progress is not None:
            self.progress.update(self.task, completed=done)

    def close(self) -> None:
        if self.progress is not None:
            self.progress.stop()
