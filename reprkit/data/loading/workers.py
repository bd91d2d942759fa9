"""Worker processes that prefetch batches, and the errors for batches that cannot be loaded."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
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

_INTERRUPTS = (KeyboardInterrupt, SystemExit, GeneratorExit)  # not errors of a data set
_WORKERS = 0x776F726B  # salt: workers and the sample order have the same seed

# A step, its indices, and the length of each field of varying length in the global batch, over all processes (None: not needed).
# A stream has the records themselves in place of indices (``reprkit.data.loading.stream_sampler.RankShare``).
Task = tuple[int, Any, Mapping[str, int] | None]


def make_batch(dataset: Dataset, task: Task) -> dict[str, Tensor]:
    """Load the batch of a task, trimmed to its longest example.

    Raises:
        DataError: the batch cannot be loaded; names the first example that cannot.
    """
    step, indices, longest = task
    try:
        if not isinstance(indices, Tensor):  # a stream pads its own share and names unreadable records itself
            return dataset.batch(indices)
        return fit_to_longest(dataset.batch(indices), dataset.signature, longest)
    except _INTERRUPTS:
        raise
    except BaseException as error:  # a panic of a native extension is no Exception
        if not isinstance(indices, Tensor):
            if isinstance(error, Exception):
                raise
            raise DataError(
                f"the batch of step {step} of {dataset.name} cannot be loaded: {_with_location(error)}"
            ) from error
        raise _example_error(dataset, indices, step, error) from error


def prefetch(
    dataset: Dataset, tasks: Iterable[Task], seed: int, rank: int, workers: int, pin: bool
) -> Iterator[dict[str, Tensor]]:
    """Iterate over the batches of the tasks in order, loaded by ``workers`` processes.

    Raises:
        DataError: a batch cannot be loaded, the data set cannot be sent to another process, or a process was killed.
    """
    loader: torch.utils.data.DataLoader[dict[str, Tensor]] = torch.utils.data.DataLoader(
        _Seeded(dataset, seed, rank),
        batch_size=None,
        sampler=tasks,
        num_workers=workers,
        collate_fn=_identity,
        pin_memory=pin,
        worker_init_fn=_init_worker,
        # Its own, or the loader would draw from the global random state.
        generator=torch.Generator().manual_seed(derive_seed(seed, _WORKERS)),
    )
    try:
        with safe_path(), warnings.catch_warnings():
            # A data set that cannot be pickled under spawn is reported below.
            warnings.filterwarnings("ignore", message="Got pickle error")
            batches = iter(loader)
    except Exception as error:
        raise DataError(
            f"{dataset.name} cannot be sent to a worker process: {type(error).__name__}: {error}\n"
            f"  define {type(dataset).__name__} (and functions that it holds) at the top of a module, or use workers=0"
        ) from error
    if workers:
        _disarm(batches)
    while True:
        try:
            batch: Any = next(batches, None)
        except (
            Exception
        ) as error:  # a dying worker breaks its queue, its shared memory, or the check of torch
            ended = _ended_worker(batches)
            if ended is None:
                raise
            raise DataError(
                f"a worker process that prepares batches of {dataset.name} ended: {ended}\n"
                "  if memory is short (also /dev/shm), use fewer workers; workers=0 loads batches in this process"
            ) from error
        if batch is None:
            return
        if isinstance(batch, _Failure):
            raise DataError(batch.text)
        yield batch


def _disarm(batches: Any) -> None:
    """Keep torch's handler of SIGCHLD from raising a RuntimeError for our workers, which may hit any line of the program.

    The next request for a batch finds that a worker has ended, after five seconds at most.
    """
    torch.utils.data._utils.signal_handling._remove_worker_pids(id(batches))
    batches._worker_pids_set = False


def _ended_worker(batches: Any) -> str | None:
    """Describe the end of a worker; None if all are alive."""
    for _ in range(20):  # its queue may break some time before the process is gone
        for worker in getattr(batches, "_workers", ()):
            if not worker.is_alive():
                code = worker.exitcode
                if code is None or code >= 0:
                    return f"process {worker.pid} left with code {code}"
                return f"process {worker.pid} was killed by {signal.Signals(-code).name}"
        time.sleep(0.05)
    return None


@dataclass(frozen=True)
class _Failure:
    """Error message sent by a worker in place of a batch; torch would wrap an exception in its own stack trace."""

    text: str


class _Seeded(torch.utils.data.Dataset[Any]):
    """Data set in a worker: loads the batch of a step with random states that depend on the step."""

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
        except _INTERRUPTS as error:  # raised by the data set: signals do not reach a worker
            return _Failure(
                f"the batch of step {task[0]} of {self.dataset.name} cannot be loaded: {_with_location(error)}"
            )


def _init_worker(worker: int) -> None:
    """Initialize a worker so that only the parent ends it.

    Signals often reach the whole process group, and the loop needs its workers until it has saved.
    """
    keep_safe_path_local()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_unless_from_parent, args=(os.getppid(),), daemon=True).start()


def _exit_unless_from_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent and os.getppid() == parent:
        pass
    os._exit(128 + signal.SIGTERM)


def _identity(batch: Any) -> Any:
    return batch


def _example_error(dataset: Dataset, indices: Tensor, step: int, error: BaseException) -> DataError:
    """Return the error for a batch that cannot be loaded, with its first failing example."""
    where = f"the batch of step {step}"
    for index in indices.tolist():
        try:
            dataset.batch(torch.tensor([index]))
        except _INTERRUPTS:
            raise
        except BaseException as example_error:
            error, where = example_error, f"example {index} (in the batch of step {step})"
            break
    reason = str(error) if isinstance(error, ReprkitError) else _with_location(error)
    return DataError(f"{where} of {dataset.name} cannot be loaded: {reason}")


def _with_location(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    location = f"\n  in {frames[-1].name}, {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{location}"
