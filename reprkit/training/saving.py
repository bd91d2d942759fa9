"""When the states of a loop are saved, in which form, and what follows if one cannot be written."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprkit.errors import TrainingError
from reprkit.training.resume import state
from reprkit.training.resume.background import (
    BackgroundSaver,
    NonFiniteStateError,
    UnwrittenStateError,
    Written,
)
from reprkit.utils.atomic_files import remove_siblings

if TYPE_CHECKING:
    from reprkit.training.loop_iterator import Loop

# What a rank votes after a step; the highest of all ranks counts.
SAVE, FAILED = 1, 2


class Saving:
    """The saving of one loop: all ranks call its methods after the same steps.

    A gathered state is written by rank 0 while all wait.  A sharded one is copied, and written while training goes on; the next
    one starts once it is written.  A full disk is a warning, unless it is the last state of the process; training then goes on,
    and the older states are kept.

    Args:
        loop: whose states are saved.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._background: BackgroundSaver | None = None
        self._next, self._asked = float("inf"), False

    def open(self) -> None:
        """Prepare for background saves; all ranks must call it."""
        options, engine = self._loop.options, self._loop.train_state.engine
        folder = self._loop.writer.state_folder
        if options.saving == "sharded" and folder is not None:
            self._background = BackgroundSaver(folder, options.keep, engine.device, engine.rank, engine.ranks)

    def remove_leftovers(self) -> None:
        """Remove what killed processes left half-written; only the process that owns the run may do so."""
        folder = self._loop.writer.state_folder
        if folder is not None:
            remove_siblings(folder, "step-*")

    def begin(self) -> None:
        """Start to count the time until the first save."""
        self._next = time.monotonic() + (self._loop.options.save_every or float("inf"))

    def reserve(self) -> None:
        """Allocate, after a first step, what later saves need."""
        if self._background is not None:
            train_state = self._loop.train_state
            self._background.reserve(train_state.capture(whole=False), train_state.model)

    def vote(self) -> int:
        """Return this rank's vote: SAVE where one is due, FAILED where the one in flight has failed, 0 otherwise."""
        background = self._background
        if background is not None and background.failed:
            return FAILED
        if background is not None and background.written:
            self.settle()
        writer, engine = self._loop.writer, self._loop.train_state.engine
        due = engine.rank == 0 and writer.state_folder is not None and time.monotonic() >= self._next
        if not due or self._asked or (background is not None and background.in_flight):
            return 0
        self._asked = True  # the result of a vote may come a step later
        return SAVE

    def follow(self, vote: int, position: int) -> None:
        """Do what the ranks have voted for."""
        if vote == FAILED:
            self._asked = False
            self.settle()
        elif vote == SAVE:
            self.save(position)

    def settle(self) -> None:
        """Wait for the state in flight, if there is one.

        Raises:
            TrainingError: it could not be written, for another reason than the disk; or its weights are not finite.
        """
        loop = self._loop
        if self._background is None:
            return
        try:
            written = self._finish()
        except UnwrittenStateError as error:
            self._warn(f"{error}; training continues")
            return
        if written is None:
            return
        if loop.time_limit is not None:
            loop.time_limit.note_save(written.seconds)
        self._note_saved(written.step)

    def save(self, position: int, *, urgent: bool = False) -> None:
        """Save the state, after checking that all values are finite.

        Args:
            position: number of completed steps.
            urgent: wait until it is written, and raise if it cannot be.

        Raises:
            TrainingError: a value is not finite; or the state cannot be written, and it is urgent.
        """
        loop, train_state, writer = self._loop, self._loop.train_state, self._loop.writer
        self._asked = False
        began = time.perf_counter()
        self.settle()
        # The thread checks the weights that it writes.
        loop.check_finite(position, buffers_only=self._background is not None)
        folder = writer.state_folder
        if folder is None:
            return
        first = train_state.engine.rank == 0
        saved: int | None = None
        if self._background is not None:
            captured = train_state.capture(whole=False)
            metadata = loop.describe_state() if first else {}
            self._background.start(position, metadata, captured, train_state.model)
            if urgent and (written := self._finish()) is not None:
                saved = written.step
        elif first or train_state.engine.shards is not None:
            captured = train_state.capture()
            if first and self._save_gathered(folder, position, captured, urgent=urgent):
                saved = position
        spent = time.perf_counter() - began
        if first:
            writer.waited["saves"] += spent
        if saved is not None:
            self._note_saved(saved)
        if loop.time_limit is not None:
            loop.time_limit.note_save(spent)
        self.begin()

    def _finish(self) -> Written | None:
        assert self._background is not None
        try:
            return self._background.finish()
        except NonFiniteStateError as error:
            self._loop.require_finite(error.names, error.step)
            raise

    def _save_gathered(self, folder: Path, position: int, captured: dict[str, Any], *, urgent: bool) -> bool:
        loop = self._loop
        try:
            state.save(folder, position, loop.describe_state(), captured, keep=loop.options.keep)
        except TrainingError as error:
            if urgent:
                raise
            self._warn(f"{error}; training continues")
            return False
        return True

    def _note_saved(self, step: int) -> None:
        if self._loop.train_state.engine.rank == 0:
            self._loop.note_saved(step)

    def _warn(self, text: str) -> None:
        if self._loop.train_state.engine.rank == 0:
            warnings.warn(text, stacklevel=6)

    def save_completed(self, position: int, saved: int, error: Exception) -> None:
        """Save the steps that are done, when the next batch cannot be loaded; ranks, of which one fails, keep their last state."""
        writer, train_state = self._loop.writer, self._loop.train_state
        if writer.state_folder is None or train_state.engine.ranks > 1 or position <= saved:
            return
        try:
            self.save(position, urgent=True)
        except TrainingError as failed:
            error.add_note(f"  and the {position} steps that are done could not be saved: {failed}")
        else:
            error.add_note(f"  the state of step {position} is saved: resume=True continues from there")

    def wait(self) -> None:
        """Wait for the state in flight when the loop ends early, by an error or a ``break``; a failure is a warning."""
        try:
            self.settle()
        except TrainingError as error:
            self._warn(str(error).partition("\n")[0])

    def close(self) -> None:
        """Release threads, memory and process group; all ranks must call it."""
        if self._background is not None:
            self._background.close()
            self._background = None
