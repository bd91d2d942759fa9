"""How several processes share a model: ``ddp``, ``fsdp``, ``hsdp``, ``tp``, ``hsdp(shards=4)``; torch-free."""

from __future__ import annotations

import os
from dataclasses import dataclass

from reprkit.errors import PartArgumentError, ReprkitError, TrainingError, nearest
from reprkit.registry.references import parse

NAMES = ("ddp", "fsdp", "hsdp", "tp")
_GROUPED = ("hsdp", "tp")
KNOWN = "'ddp', 'fsdp', 'hsdp', 'tp' or, with a number of processes for each model, 'hsdp(shards=4)', 'tp(shards=4)'"


@dataclass(frozen=True)
class Strategy:
    """A strategy of several processes.

    Attributes:
        name: "ddp" (every process holds the model), "fsdp" (each holds a shard), "hsdp" (groups of processes hold a model, each
            process of a group a shard of it) or "tp" (each process of a group computes a part of each layer).
        shards: "hsdp", "tp": the processes of a group; None for the processes of a machine.
    """

    name: str
    shards: int | None = None

    @property
    def sharded(self) -> bool:
        """Whether several processes hold shards of the model."""
        return self.name != "ddp"

    def shards_of(self, ranks: int) -> int:
        """Return the number of processes that together hold one model.

        Args:
            ranks: the number of all processes.

        Raises:
            TrainingError: the processes do not divide into equal groups, or a group is one process.
        """
        if self.name not in _GROUPED or ranks == 1:
            return ranks if self.sharded else 1
        shards = int(os.environ.get("LOCAL_WORLD_SIZE", ranks)) if self.shards is None else self.shards
        what = (
            f"strategy='{self.name}(shards={shards})'"
            if self.shards
            else f"strategy='{self.name}' with {shards} processes on this machine"
        )
        if shards == 1:
            raise TrainingError(
                f"{what} would shard nothing, since each process holds a model: use strategy='ddp', 'fsdp', which shards over all "
                f"{ranks} processes, or '{self.name}(shards=2)'"
            )
        if ranks % shards:
            divisors = [str(n) for n in range(2, ranks) if ranks % n == 0]
            raise TrainingError(
                f"{what}: {ranks} processes do not divide into groups of {shards}; use strategy='fsdp'"
                + (f", or shards= one of {', '.join(divisors)}" if divisors else "")
            )
        return shards


def strategy_from(text: object, function: str = "rk.loop") -> Strategy:
    """Return the strategy that a text names.

    Raises:
        PartArgumentError: there is no such strategy, or it has no such option; the message begins with ``function``.
    """
    what = f"{function}: strategy={text!r}"
    try:
        reference = parse(text) if isinstance(text, str) else None
    except ReprkitError:
        reference = None
    if reference is None or reference.distribution or reference.name not in NAMES:
        suggestion = nearest(reference.name, NAMES) if reference is not None else ""
        raise PartArgumentError(f"{what} must be {KNOWN}{suggestion and '.' + suggestion}")
    options = dict(reference.arguments)
    shards = options.pop("shards", None)
    if options or (shards is not None and reference.name not in _GROUPED):
        raise PartArgumentError(
            f"{what}: the only option is 'shards' of hsdp and tp, the processes that together hold one model"
        )
    if shards is not None and (type(shards) is not int or shards < 2):
        raise PartArgumentError(f"{what}: shards={shards!r} must be an integer, at least 2")
    return Strategy(reference.name, shards)
