"""Save sharded states in the background, by torch.distributed.checkpoint: a step waits only until its tensors are copied.

Each rank copies what it writes into a buffer (``staging.py``), and a thread writes its file.  Once all ranks have written, rank 0
renames the folder, which makes the state visible, and removes older ones.  The threads have a process group of their own.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn

from reprkit.errors import TrainingError
from reprkit.training.resume import division, state
from reprkit.training.resume.staging import StagedChunk, Staging, staged_bytes
from reprkit.utils.atomic_files import create_sibling

# A rank waits so long for the others' files.  A rank that dies is noticed at once.
_TIMEOUT = timedelta(hours=6)


class UnwrittenStateError(TrainingError):
    """A state could not be written to the disk."""


class NonFiniteStateError(TrainingError):
    """Weights of a state are not finite, so it was not saved.

    Args:
        step: of the state.
        names: of the weights.
    """

    def __init__(self, step: int, names: Sequence[str]) -> None:
        super().__init__(f"weights are not finite at step {step}: {', '.join(names)}")
        self.step, self.names = step, list(names)


@dataclass(frozen=True)
class Written:
    """A state that all ranks have written: its step, and the seconds from its start until it was visible."""

    step: int
    seconds: float


class BackgroundSaver:
    """Saver of one loop.  At most one state is in flight.

    Args:
        folder: of the states.
        keep: number of states to keep.
        device: of the tensors.
        rank: of this process.
        ranks: number of processes; all must create the saver, and call ``start`` and ``close``.
    """

    def __init__(self, folder: Path, keep: int, device: torch.device, rank: int, ranks: int) -> None:
        self._folder, self._keep, self._rank, self._ranks = folder, keep, rank, ranks
        self._group = dist.new_group(backend="gloo", timeout=_TIMEOUT) if ranks > 1 else None
        self._staging = Staging(device)
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reprkit saving")
        self._future: Future[Any] | None = None
        self._reserving: Future[None] | None = None
        self._step, self._began = 0, 0.0
        self._ended: list[float] = []

    @property
    def in_flight(self) -> bool:
        """Whether a state is being written, or ``finish`` has not been called since."""
        return self._future is not None

    @property
    def written(self) -> bool:
        """Whether the state in flight is written, so that ``finish`` neither waits nor raises."""
        return self._future is not None and self._future.done() and self._future.exception() is None

    @property
    def failed(self) -> bool:
        """Whether the state in flight could not be written."""
        return self._future is not None and self._future.done() and self._future.exception() is not None

    def reserve(self, captured: Mapping[str, Any], model: nn.Module) -> None:
        """Allocate the buffer for states of this size in the background, so that the first save waits no longer than others."""
        _, chunks = division.divide(captured, model, self._rank, self._ranks)
        self._reserving = self._threads.submit(self._staging.reserve, staged_bytes(chunks))

    def start(
        self, step: int, metadata: Mapping[str, Any], captured: Mapping[str, Any], model: nn.Module
    ) -> None:
        """Copy a captured state, and start to write it; all ranks must call it, after ``finish`` of the state before.

        Args:
            step: of the state.
            metadata: plain JSON; rank 0's is saved.
            captured: what ``snapshot.capture(..., whole=False)`` returned.
            model: the model that was captured.
        """
        from reprkit.training.resume import part_files  # imports torch.distributed.checkpoint

        assert self._future is None
        if self._reserving is not None:
            self._reserving.result()
        self._step, self._began, self._ended = step, time.perf_counter(), []
        rest, chunks = division.divide(captured, model, self._rank, self._ranks)
        staged = self._staging.stage(chunks)
        record, saved_rest = b"", b""
        if self._rank == 0:
            record, saved_rest = json.dumps(dict(metadata)).encode(), _to_bytes(rest)

        def complete(fresh: Path, parts: list[part_files.Part]) -> None:
            about = {**json.loads(record), "parts": [part._asdict() for part in parts]}
            state.save_rest(fresh, step, about, saved_rest, self._keep)

        path = state.state_path(self._folder, step)
        writer = part_files.PartWriter(
            self._folder, staged, self._staging.buffer, lambda: create_sibling(path), complete
        )
        self._future = self._submit(staged, writer)
        self._future.add_done_callback(lambda future: self._note_end(future, writer.fresh))

    def _submit(self, staged: dict[str, StagedChunk], writer: Any) -> Future[Any]:
        from torch.distributed.checkpoint import async_save

        from reprkit.training.resume.part_files import PartPlanner

        if self._group is None:
            return self._threads.submit(_write_alone, staged, writer, PartPlanner())
        stager: Any = _Staged()
        future: Any = async_save(
            staged,
            storage_writer=writer,
            planner=PartPlanner(),
            process_group=self._group,
            async_stager=stager,
        )
        return cast("Future[Any]", future)

    def _note_end(self, future: Future[Any], fresh: Path | None) -> None:
        self._ended.append(time.perf_counter())
        if self._rank == 0 and fresh is not None and future.exception() is not None:
            shutil.rmtree(fresh, ignore_errors=True)

    def finish(self) -> Written | None:
        """Wait for the state in flight; None if there is none.

        Raises:
            UnwrittenStateError: a rank could not write to the disk; older states are untouched.
            NonFiniteStateError: weights are not finite.
            TrainingError: it failed in another way, such as by the end of another rank.
        """
        future, self._future = self._future, None
        if future is None:
            return None
        error = future.exception()
        if error is None:
            return Written(self._step, (self._ended or [time.perf_counter()])[0] - self._began)
        from reprkit.training.resume import part_files

        path = state.state_path(self._folder, self._step)
        cause = _first_cause(error)
        if isinstance(cause, part_files.NonFinitePartError):
            raise NonFiniteStateError(self._step, cause.args) from None
        if isinstance(cause, OSError):
            raise UnwrittenStateError(state.unwritten(path, cause)) from error
        reason = f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
        raise TrainingError(
            f"the state at step {self._step} was not saved to {path}: {reason}\n"
            "  older states are untouched, and resume=True continues from the newest; saving='gathered' saves by process 0 alone"
        ) from error

    def close(self) -> None:
        """Release threads, memory and process group; all ranks must call it, after ``finish``."""
        self._threads.shutdown(wait=not self.in_flight)
        if self._group is not None and dist.is_initialized() and not self.in_flight:
            dist.destroy_process_group(self._group)
        self._group = None


class _Staged:
    """The stager of ``async_save`` where all is staged already."""

    should_synchronize_after_execute = False

    def stage(self, staged: dict[str, Any]) -> dict[str, Any]:
        return staged

    def synchronize_staging(self) -> None:
        return

    def close(self) -> None:
        return


def _write_alone(staged: dict[str, StagedChunk], writer: Any, planner: Any) -> None:
    """Do what ``async_save`` does, in one process without a process group, where it would warn at every save."""
    planner.set_up_planner(staged, is_coordinator=True)
    (plan,), metadata = planner.create_global_plan([planner.create_local_plan()])
    (plan,) = writer.prepare_global_plan([plan])
    writer.finish(metadata, [writer.write_data(planner.finish_plan(plan), planner).wait()])


def _to_bytes(rest: Mapping[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(dict(rest), file)
    return file.getvalue()


def _first_cause(error: BaseException) -> BaseException:
    """Return what went wrong on the first rank that failed; an error of the disk before any other."""
    failures = [pair[0] for _, pair in sorted(getattr(error, "failures", {}).items())]
    return next((each for each in failures if isinstance(each, OSError)), failures[0] if failures else error)
