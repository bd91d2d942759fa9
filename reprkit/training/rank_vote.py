"""Joint decisions of all ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from reprkit.utils import collectives


class RankVote:
    """Maximum of all ranks' flags, one round late: a round is sent after a step and read after the next one.

    So no step waits for the network, and all ranks see the same flags after the same step.  In one process a round is read
    immediately.  The exchange has its own process group on the CPU, apart from the gradients'.
    """

    def __init__(self, flags: int) -> None:
        self._alone = collectives.processes() == 1
        self._group = None if self._alone else dist.new_group(backend="gloo")
        self._none = (0,) * flags
        self._sent: tuple[torch.Tensor, Any] | None = None

    def exchange(self, *flags: int) -> tuple[int, ...]:
        """Send this rank's flags; return the maximum of those sent before."""
        if self._alone:
            return flags
        result = self._read()
        value = torch.tensor(flags, dtype=torch.int64)
        self._sent = value, dist.all_reduce(value, op=dist.ReduceOp.MAX, group=self._group, async_op=True)
        return result

    def exchange_now(self, *flags: int) -> tuple[int, ...]:
        """Exchange flags and wait for this round's result: for the end of a run."""
        if self._alone:
            return flags
        before = self.exchange(*flags)
        return tuple(max(pair) for pair in zip(before, self._read(), strict=True))

    def close(self) -> None:
        """Destroy the process group; all ranks must call it."""
        if self._group is not None and dist.is_initialized():
            dist.destroy_process_group(self._group)
            self._group = None

    def _read(self) -> tuple[int, ...]:
        if self._sent is None:
            return self._none
        (value, work), self._sent = self._sent, None
        work.wait()
        return tuple(value.tolist())
