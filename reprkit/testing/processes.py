"""Start several processes that form one group (gloo, on the CPU); bring results or tracebacks home."""

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

GRACE = 2.0  # seconds that the other ranks get, after one has failed, to say how they fared
START = 60.0  # seconds that the ranks have to import torch and to find each other, before their time begins


class RanksError(RuntimeError):
    """A rank failed, or did not end in time; the message holds the tracebacks, the first failure first."""


def ranks(n: int, function: Callable[..., Any], *args: Any, timeout: float = 120.0) -> list[Any]:
    """Run ``function(rank, *args)`` in ``n`` new processes that form one group; their results, rank by rank.

    Every process starts with the same random state (``torch.manual_seed(0)``), one thread, no GPU, and the
    variables that torchrun would set, so code under Accelerate runs there too.

    Args:
        n: how many processes, at least 1.
        function: defined at the top level of a module that can be imported: a new process must find it.
        args: anything that can be pickled; so must the result be.  Tensors are copied.
        timeout: seconds that ``function`` may take; a hang is reported with the place where each rank hangs.

    Raises:
        RanksError: a rank raised, was killed, or did not end in time.
    """
    import torch.multiprocessing as mp

    if n < 1:
        raise ValueError(f"ranks needs at least one process, not {n}")
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        call = pickle.dumps((function, args))
        with safe_path():
            context = mp.start_processes(
                _one, (n, folder, free_port(), call, timeout), nprocs=n, join=False, start_method="spawn"
            )
        try:
            _wait(context, timeout + START)
        except Exception as error:
            raise RanksError(describe_failure(Path(folder), n, str(error))) from None
        finally:
            for process in context.processes:
                if process.is_alive():
                    process.kill()
                process.join()
        # What is read here was written by the processes started above, in a folder of their own.
        return [pickle.loads((Path(folder) / f"result-{rank}").read_bytes()) for rank in range(n)]


def _wait(context: Any, timeout: float) -> None:
    """Until all have ended; the first that failed raises, as does the lack of time."""
    end = time.monotonic() + timeout
    while not context.join(timeout=max(0.0, end - time.monotonic()), grace_period=GRACE):
        if time.monotonic() >= end:
            raise TimeoutError(f"not all ranks ended within {timeout:.0f} s")


def _one(rank: int, n: int, folder: str, port: int, call: bytes, timeout: float) -> None:
    """The life of one rank."""
    keep_safe_path_local()
    import torch

    home = Path(folder)
    # The group outlives `timeout`, so that what is reported is the place of the hang and not that gloo lost
    # patience.
    with process_group(rank, n, folder, port, timeout + START):
        try:
            function, args = pickle.loads(call)
            with (home / f"hang-{rank}").open("w") as hang:
                faulthandler.dump_traceback_later(timeout, exit=True, file=hang)
                torch.manual_seed(0)
                result = function(rank, *args)
                faulthandler.cancel_dump_traceback_later()
            (home / f"result-{rank}").write_bytes(pickle.dumps(result))
        except Exception:  # written down before the group ends, which makes the others fail too
            (home / f"error-{rank}").write_text(traceback.format_exc())
            raise
    # Leave at once: a gloo thread may still hold a finished collective, and to drop its tensors while Python shuts
    # down aborts the process (it asks for a lock that is gone), one time in five on a busy machine.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextmanager
def process_group(rank: int, n: int, folder: str, port: int, timeout: float) -> Iterator[None]:
    """Make this process one rank of a gloo group, in an environment as torchrun's, one thread, no GPU."""
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
    # A file, not the port: two test runs on one machine must not meet.
    meeting = f"file://{Path(folder) / 'meet'}"
    dist.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=n, timeout=timedelta(seconds=timeout)
    )
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def describe_failure(folder: Path, n: int, cause: str) -> str:
    """What went wrong: the tracebacks of all ranks in the order of their failure, or where they hang."""
    errors = sorted(folder.glob("error-*"), key=lambda path: path.stat().st_mtime_ns)
    hangs = [path for path in sorted(folder.glob("hang-*")) if path.stat().st_size]
    parts = [f"rank {path.name.partition('-')[2]} of {n} raised:\n{path.read_text()}" for path in errors]
    parts += [
        f"rank {path.name.partition('-')[2]} of {n} was still here:\n{path.read_text()}" for path in hangs
    ]
    return "\n".join(parts) or f"{n} ranks: {cause}"
