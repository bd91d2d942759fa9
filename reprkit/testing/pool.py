"""A pool of rank processes: ``together`` is ``ranks`` for many short functions, without a new start for each."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from reprkit.testing.processes import GRACE, START, RanksError, describe_failure, free_port, process_group
from reprkit.utils.spawning import keep_safe_path_local, safe_path

_pool: Pool | None = None


class KilledError(RanksError):
    """A signal ended a rank (SIGABRT, SIGSEGV), so that it raised no error; the message contains the stacks."""


def together(n: int, function: Callable[..., Any], *args: Any, timeout: float = 120.0) -> list[Any]:
    """Run ``function(rank, *args)`` in ``n`` processes of one group; return the results in rank order.

    Like ``reprkit.testing.processes.ranks``, except that the processes are kept for the next call: starting
    them takes seconds, and a suite of checks makes dozens of calls.  After a failure new ones are started.
    State that a function leaves in its process (imports, caches) is seen by the next function.  So where a signal such as
    SIGABRT ends a process that has run earlier functions, the memory that they left may be the cause: the function is run once
    more, in new processes, and the end of the first ones is reported as a warning with their stacks.

    Args:
        n: number of processes.
        function: a function at the top level of an importable module.
        args: its arguments; they and the result must be picklable.
        timeout: time limit of ``function`` in seconds.

    Raises:
        RanksError: a rank raised an error, died (in a process that no earlier function has used, if by a signal), or exceeded
            the time limit.
    """
    global _pool
    environment = (n, tuple(sys.path), os.getcwd(), *(os.environ.get(name) for name in _VARIABLES))
    if _pool is None or _pool.environment != environment:
        close()
        _pool = Pool(n, environment)
    used = not _pool.new
    try:
        return _pool.run(function, args, timeout)
    except KilledError as error:
        close()
        if not used:
            raise
        warnings.warn(f"{error}\n{function.__qualname__} is run again in new processes", stacklevel=2)
        return together(n, function, *args, timeout=timeout)
    except BaseException:
        close()
        raise


_VARIABLES = ("REPRKIT_PLUGINS", "REPRKIT_PLUGIN_ERRORS", "PYTHONPATH")


def close() -> None:
    """Stop the processes that ``together`` keeps, if there are any."""
    global _pool
    if _pool is not None:
        _pool.close()
        _pool = None


atexit.register(close)


class Pool:
    """``n`` processes of one gloo group that wait for functions; ``environment`` identifies what they were started in."""

    def __init__(self, n: int, environment: object) -> None:
        import torch.multiprocessing as mp

        self.n, self.environment, self.new = n, environment, True
        self.folder = Path(tempfile.mkdtemp(prefix="ranks-"))
        context = mp.get_context("spawn")
        port = free_port()
        self.pipes: list[Connection] = []
        self.processes = []
        for rank in range(n):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(rank, n, str(self.folder), port, theirs), daemon=True
            )
            with safe_path():
                process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], timeout: float) -> list[Any]:
        """Run one function on all processes.

        Raises:
            RanksError: see ``together``; the pool cannot be used afterwards.
        """
        call = pickle.dumps((function, args, timeout))
        for pipe in self.pipes:
            with contextlib.suppress(OSError):  # a dead process is detected below, at the end of its pipe
                pipe.send_bytes(call)
        results: dict[int, Any] = {}
        end = time.monotonic() + timeout + (START if self.new else GRACE)
        failed = ""
        while len(results) < self.n:
            pending = [pipe for rank, pipe in enumerate(self.pipes) if rank not in results]
            ready = wait(pending, max(0.0, end - time.monotonic()))
            if not ready:
                failed = failed or f"not all ranks ended within {timeout:.0f} s"
                break
            for rank in [rank for rank in range(self.n) if self.pipes[rank] in ready]:
                try:
                    # What is read here was written by the processes started above, through their own pipes.
                    results[rank] = pickle.loads(self.pipes[rank].recv_bytes())
                except (EOFError, OSError):
                    self.processes[rank].join(GRACE)
                    failed = failed or f"rank {rank} has exited"
                    results[rank] = None
                    end = min(end, time.monotonic() + GRACE)
        if failed:
            reports = [*self._describe_silent_exits(), describe_failure(self.folder, self.n, failed)]
            codes = [process.exitcode for process in self.processes]
            # Where a rank raised an error, that is the failure: the others may abort because it left the group.
            raised = any(self.folder.glob("error-*"))
            killed = not raised and any(code is not None and code < 0 for code in codes)
            raise (KilledError if killed else RanksError)("\n".join(reports))
        self.new = False
        return [results[rank] for rank in range(self.n)]

    def _describe_silent_exits(self) -> list[str]:
        """Describe the ranks that died without an error of Python: killed, or aborted by a library, with its last stack."""
        reported = {path.name for path in self.folder.glob("error-*")}
        silent = []
        for rank, process in enumerate(self.processes):
            stack = self.folder / f"hang-{rank}"
            timed_out = stack.exists() and stack.stat().st_size and (process.exitcode or 0) > 0
            if process.exitcode and f"error-{rank}" not in reported and not timed_out:
                silent.append(
                    f"rank {rank} of {self.n} ended with exit code {process.exitcode} and without a traceback\n"
                )
        return silent

    def close(self) -> None:
        """Stop the processes."""
        for pipe in self.pipes:
            pipe.close()  # a waiting process reads the end of its pipe and exits
        for process in self.processes:
            process.join(GRACE)
            if process.is_alive():
                process.kill()
                process.join()
        shutil.rmtree(self.folder, ignore_errors=True)


def _serve(rank: int, n: int, folder: str, port: int, pipe: Connection) -> None:
    """Run functions on one rank and send back their results, until the pipe closes or an error is raised."""
    keep_safe_path_local()
    import faulthandler

    import torch

    root = Path(folder)
    with process_group(rank, n, folder, port, timeout=3600.0):
        try:
            while True:
                try:
                    call = pipe.recv_bytes()
                except (EOFError, OSError):
                    return
                function, args, timeout = pickle.loads(call)
                with (root / f"hang-{rank}").open("w") as hang:
                    faulthandler.enable(hang)  # a signal's stack goes to the same file
                    faulthandler.dump_traceback_later(timeout, exit=True, file=hang)
                    torch.manual_seed(0)
                    result = function(rank, *args)
                    faulthandler.cancel_dump_traceback_later()
                    faulthandler.disable()
                pipe.send_bytes(pickle.dumps(result))
        except Exception:
            (root / f"error-{rank}").write_text(traceback.format_exc())
            os._exit(1)  # at once, since the other ranks would wait for this one
