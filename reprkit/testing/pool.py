"""Processes that stay: ``together`` is ``ranks`` for many short functions, without starting anew for each."""

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
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from reprkit.testing.processes import GRACE, START, RanksError, describe_failure, free_port, process_group
from reprkit.utils.spawning import keep_safe_path_local, safe_path

_pool: Pool | None = None


def together(n: int, function: Callable[..., Any], *args: Any, timeout: float = 120.0) -> list[Any]:
    """Run ``function(rank, *args)`` in ``n`` processes of one group; their results, rank by rank.

    As ``reprkit.testing.processes.ranks``, only that the processes are kept for the next call: starting them
    takes seconds, and a suite of checks makes dozens of calls.  After a failure they are started anew.  What
    a function leaves behind in its process (imports, caches) the next one finds.

    Args:
        n: how many processes.
        function: defined at the top level of a module that can be imported.
        args: anything that can be pickled; so must the result be.
        timeout: seconds that ``function`` may take.

    Raises:
        RanksError: a rank raised, died, or did not end in time.
    """
    global _pool
    world = (n, tuple(sys.path), os.getcwd(), *(os.environ.get(name) for name in _VARIABLES))
    if _pool is None or _pool.world != world:
        close()
        _pool = Pool(n, world)
    try:
        return _pool.run(function, args, timeout)
    except BaseException:
        close()
        raise


_VARIABLES = ("REPRKIT_PLUGINS", "REPRKIT_PLUGIN_ERRORS", "PYTHONPATH")


def close() -> None:
    """End the processes that ``together`` keeps, if there are any."""
    global _pool
    if _pool is not None:
        _pool.close()
        _pool = None


atexit.register(close)


class Pool:
    """``n`` processes of one gloo group that wait for functions; ``world`` is what they were started in."""

    def __init__(self, n: int, world: object) -> None:
        import torch.multiprocessing as mp

        self.n, self.world, self.new = n, world, True
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
        """One function on all of them.

        Raises:
            RanksError: see ``together``; the pool is of no use afterwards.
        """
        call = pickle.dumps((function, args, timeout))
        for pipe in self.pipes:
            with contextlib.suppress(OSError):  # one that has died: its end of the pipe says so below
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
            for rank in [each for each in range(self.n) if self.pipes[each] in ready]:
                try:
                    # What is read here was written by the processes started above, through their own pipes.
                    results[rank] = pickle.loads(self.pipes[rank].recv_bytes())
                except (EOFError, OSError):
                    self.processes[rank].join(GRACE)
                    failed = failed or f"rank {rank} is gone"
                    results[rank] = None
                    end = min(end, time.monotonic() + GRACE)
        if failed:
            raise RanksError("\n".join([*self._silent(), describe_failure(self.folder, self.n, failed)]))
        self.new = False
        return [results[rank] for rank in range(self.n)]

    def _silent(self) -> list[str]:
        """The ranks that died without leaving a traceback: killed, or ended by a library's own abort."""
        told = {path.name for path in self.folder.iterdir() if path.stat().st_size}
        return [
            f"rank {rank} of {self.n} ended with exit code {process.exitcode} and said nothing\n"
            for rank, process in enumerate(self.processes)
            if process.exitcode and not {f"error-{rank}", f"hang-{rank}"} & told
        ]

    def close(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            pipe.close()  # a waiting process reads the end of its pipe and leaves
        for process in self.processes:
            process.join(GRACE)
            if process.is_alive():
                process.kill()
                process.join()
        shutil.rmtree(self.folder, ignore_errors=True)


def _serve(rank: int, n: int, folder: str, port: int, pipe: Connection) -> None:
    """The life of one rank: take a function, answer with its result; the first error is the end."""
    keep_safe_path_local()
    import faulthandler

    import torch

    home = Path(folder)
    with process_group(rank, n, folder, port, timeout=3600.0):
        try:
            while True:
                try:
                    call = pipe.recv_bytes()
                except (EOFError, OSError):
                    return
                function, args, timeout = pickle.loads(call)
                with (home / f"hang-{rank}").open("w") as hang:
                    faulthandler.dump_traceback_later(timeout, exit=True, file=hang)
                    torch.manual_seed(0)
                    result = function(rank, *args)
                    faulthandler.cancel_dump_traceback_later()
                pipe.send_bytes(pickle.dumps(result))
        except Exception:
            (home / f"error-{rank}").write_text(traceback.format_exc())
            os._exit(1)  # at once: the others wait for a peer that does not come
