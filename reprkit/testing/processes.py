"""Run a function in several processes that form one group (gloo, on the CPU); return results or tracebacks."""

from __future__ import annotations

import faulthandler
import os
import pickle
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from reprkit.utils.spawning import keep_safe_path_local, safe_path

GRACE = 2.0  # seconds that the other ranks get, after one has failed, to report their own errors
START = 60.0  # seconds that the ranks have to import torch and to connect, before their time limit starts


class RanksError(RuntimeError):
    """A rank failed or exceeded the time limit; the message contains the tracebacks, the first failure first."""


def ranks(n: int, function: Callable[..., Any], *args: Any, timeout: float = 120.0) -> list[Any]:
    """Run ``function(rank, *args)`` in ``n`` new processes that form one group; return the results in rank order.

    Every process starts with the same random state (``torch.manual_seed(0)``), one thread, no GPU, and the
    environment variables that torchrun would set, so that code under Accelerate runs there too.

    Args:
        n: number of processes, at least 1.
        function: a function at the top level of an importable module, since a new process must import it.
        args: its arguments; they and the result must be picklable.  Tensors are copied.
        timeout: time limit of ``function`` in seconds; a hang is reported with the traceback of each rank.

    Raises:
        RanksError: a rank raised an error, was killed, or exceeded the time limit.
    """
    import torch.multiprocessing as mp

    if n < 1:
        raise ValueError(f"ranks needs at least one process, not {n}")
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        call = pickle.dumps((function, args))
        with safe_path():
            context = mp.start_processes(
                _run_rank, (n, folder, free_port(), call, timeout), nprocs=n, join=False, start_method="spawn"
            )
        try:
            _wait_for_ranks(context, timeout + START)
        except Exception as error:
            raise RanksError(describe_failure(Path(folder), n, str(error))) from None
        finally:
            for process in context.processes:
                if process.is_alive():
                    process.kill()
                process.join()
        # What is read here was written by the processes started above, in a folder of their own.
        return [pickle.loads((Path(folder) / f"result-{rank}").read_bytes()) for rank in range(n)]


def _wait_for_ranks(context: Any, timeout: float) -> None:
    """Wait until all ranks have ended; raise on the first failure and on timeout."""
    end = time.monotonic() + timeout
    while not context.join(timeout=max(0.0, end - time.monotonic()), grace_period=GRACE):
        if time.monotonic() >= end:
            raise TimeoutError(f"not all ranks ended within {timeout:.0f} s")


def _run_rank(rank: int, n: int, folder: str, port: int, call: bytes, timeout: float) -> None:
    """Run the function on one rank."""
    keep_safe_path_local()
    import torch

    root = Path(folder)
    # The group's timeout is longer than `timeout`, so that the report shows where ranks hang, not a gloo timeout.
    with process_group(rank, n, folder, port, timeout + START):
        try:
            function, args = pickle.loads(call)
            with (root / f"hang-{rank}").open("w") as hang:
                faulthandler.dump_traceback_later(timeout, exit=True, file=hang)
                torch.manual_seed(0)
                result = function(rank, *args)
                faulthandler.cancel_dump_traceback_later()
            (root / f"result-{rank}").write_bytes(pickle.dumps(result))
        except Exception:  # written before the group ends, which makes the others fail too
            (root / f"error-{rank}").write_text(traceback.format_exc())
            raise
    # Exit at once: a gloo thread may still hold a finished collective, and releasing its tensors while Python shuts
    # down aborts the process (it needs a lock that no longer exists), one time in five on a busy machine.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextmanager
def process_group(rank: int, n: int, folder: str, port: int, timeout: float) -> Iterator[None]:
    """Make this process one rank of a gloo group, with torchrun's environment variables, one thread, no GPU."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(n),
        LOCAL_WORLD_SIZE=str(n),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        CUDA_VISIBLE_DEVICES="",
    )
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    # A file, not the port, so that two test runs on one machine cannot connect to each other.
    rendezvous = f"file://{Path(folder) / 'meet'}"
    dist.init_process_group(
        "gloo", init_method=rendezvous, rank=rank, world_size=n, timeout=timedelta(seconds=timeout)
    )
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def describe_failure(folder: Path, n: int, cause: str) -> str:
    """Return the tracebacks of all ranks in the order of their failure, or where they hang."""
    errors = sorted(folder.glob("error-*"), key=lambda path: path.stat().st_mtime_ns)
    hangs = [path for path in sorted(folder.glob("hang-*")) if path.stat().st_size]
    parts = [f"rank {path.name.partition('-')[2]} of {n} raised:\n{path.read_text()}" for path in errors]
    for path in hangs:
        stack = path.read_text()
        state = "received a signal" if stack.startswith("Fatal Python error") else "was still running"
        parts.append(f"rank {path.name.partition('-')[2]} of {n} {state}:\n{stack}")
    return "\n".join(parts) or f"{n} ranks: {cause}"
