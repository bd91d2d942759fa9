"""Worker processes that prepare batches ahead, and what is said when a batch cannot be made."""

from __future__ import annotations

import os
import random
import signal
import threading
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.base import Dataset, derive_seed
from reprkit.data.loading.buckets import fit_to_longest
from reprkit.errors import DataError, ReprkitError
from reprkit.utils.spawning import keep_safe_path_local, safe_path

_WORKERS = 0x776F726B  # keeps apart what is drawn from one seed

# A step, its indices, and how long each field of varying length is in the whole batch, over all processes (None: not needed).
# In place of indices a stream has the records themselves (``reprkit.data.loading.stream_sampler.RankShare``).
Task = tuple[int, Any, Mapping[str, int] | None]


def make_batch(dataset: Dataset, task: Task) -> dict[str, Tensor]:
    """The batch of a task, not longer than its longest example.

    Raises:
        DataError: it cannot be made; names the first example that cannot.
    """
    step, indices, longest = task
    if not isinstance(indices, Tensor):  # a stream pads its share of records, and names those it cannot read
        return dataset.batch(indices)
    try:
        return fit_to_longest(dataset.batch(indices), dataset.signature, longest)
    except Exception as error:
        raise _named(dataset, indices, step, error) from error


def prefetch(
    dataset: Dataset, tasks: Iterable[Task], seed: int, rank: int, workers: int, pin: bool
) -> Iterator[dict[str, Tensor]]:
    """The batches of the tasks in their order, made by ``workers`` processes.

    Raises:
        DataError: a batch cannot be made, the data set cannot be sent to another process, or a process has been killed.
    """
    loader: torch.utils.data.DataLoader[dict[str, Tensor]] = torch.utils.data.DataLoader(
        _Seeded(dataset, seed, rank),
        batch_size=None,
        sampler=tasks,
        num_workers=workers,
        collate_fn=_same,
        pin_memory=pin,
        worker_init_fn=_steady,
        # Its own, or the loader would take a draw from the global random state.
        generator=torch.Generator().manual_seed(derive_seed(seed, _WORKERS)),
    )
    try:
        with (
            safe_path(),
            warnings.catch_warnings(),
        ):  # what is pickled under spawn, and cannot be, is said below
            warnings.filterwarnings("ignore", message="Got pickle error")
            batches = iter(loader)
    except Exception as error:
        raise DataError(
            f"{dataset.name} cannot be sent to a worker process: {type(error).__name__}: {error}\n"
            f"  define {type(dataset).__name__} (and functions that it holds) at the top of a module; or workers=0"
        ) from error
    while True:
        try:
            batch: Any = next(batches, None)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"a worker process that prepares batches of {dataset.name} ended: {error}\n"
                "  where memory is short (also /dev/shm) take fewer workers; workers=0 makes batches in this process"
            ) from error
        if batch is None:
            return
        if isinstance(batch, _Failure):
            raise DataError(batch.text)
        yield batch


@dataclass(frozen=True)
class _Failure:
    """What a worker sends in place of a batch: torch would wrap an exception into a stack of its own."""

    text: str


class _Seeded(torch.utils.data.Dataset[Any]):
    """In a worker: the batch of a step, made from random states that depend on the step."""

    def __init__(self, dataset: Dataset, seed: int, rank: int) -> None:
        self.dataset, self.seed, self.rank = dataset, seed, rank

    def __getitem__(self, task: Task) -> dict[str, Tensor] | _Failure:
        seed = derive_seed(self.seed, _WORKERS, task[0], self.rank)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        try:
            return make_batch(self.dataset, task)
        except DataError as error:
            return _Failure(str(error))


def _steady(worker: int) -> None:
    """Signals often reach a whole group of processes; the loop needs its workers until it has saved, and ends them itself."""
    keep_safe_path_local()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_heed, args=(os.getppid(),), daemon=True).start()


def _heed(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent and os.getppid() == parent:
        pass
    os._exit(128 + signal.SIGTERM)


def _same(batch: Any) -> Any:
    return batch


def _named(dataset: Dataset, indices: Tensor, step: int, error: Exception) -> DataError:
    """What is said of an example that cannot be made."""
    where = f"the batch of step {step}"
    for index in indices.tolist():
        try:
            dataset.batch(torch.tensor([index]))
        except Exception as alone:
            error, where = alone, f"example {index} (in the batch of step {step})"
            break
    said = str(error) if isinstance(error, ReprkitError) else _with_place(error)
    return DataError(f"{where} of {dataset.name} cannot be made: {said}")


def _with_place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f"\n  in {frames[-1].name}, {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
