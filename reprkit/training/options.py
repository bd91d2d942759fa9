"""What one may tell the loop, checked before anything is done."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from reprkit.errors import TrainingError
from reprkit.interfaces import require
from reprkit.training.best import Goal
from reprkit.training.engine import PRECISIONS, STRATEGIES
from reprkit.training.schedules import Schedule, schedule_from


@dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of ``rk.loop``; see there."""

    steps: int
    batch: int
    lr: float
    out: Path | None
    resume: bool
    seed: int
    optimizer: str | Optimizer
    optimizers: Mapping[str, str | Optimizer]
    weight_decay: float | None
    schedule: str | Schedule
    warmup: int
    clip: float | None
    accumulate: int
    precision: str
    strategy: str
    device: str | torch.device | None
    compile: bool
    ema: float | None
    workers: int
    buckets: bool | int
    save_every: float | None
    keep: int
    best: str | None
    log_every: int
    progress: bool | None
    track: tuple[str, ...]
    stage: str | None
    extras: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Refuse what is out of range.

        Raises:
            PartArgumentError: naming the argument and its range.
            TrainingError: arguments that do not go together.
        """
        for name, least in (
            ("steps", 1),
            ("batch", 1),
            ("accumulate", 1),
            ("keep", 1),
            ("workers", 0),
            ("log_every", 0),
            ("seed", 0),
        ):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            require(whole and value >= least, f"{name} is a whole number from {least}, not {value!r}")
        good = isinstance(self.buckets, int) and (isinstance(self.buckets, bool) or self.buckets >= 1)
        require(good, f"buckets is True, False or a number of batches from 1, not {self.buckets!r}")
        for name, optional in (("lr", False), ("clip", True), ("save_every", True)):
            value = getattr(self, name)
            good = (value is None and optional) or (isinstance(value, int | float) and 0 < value < math.inf)
            require(good, f"{name} is a positive number{' or None' if optional else ''}, not {value!r}")
        decay = self.weight_decay
        require(
            decay is None or 0 <= decay < 1,
            f"weight_decay lies in [0, 1), or is None for the optimiser's own, not {decay!r}",
        )
        require(
            self.precision in PRECISIONS,
            f"precision is one of {', '.join(PRECISIONS)}, not {self.precision!r}",
        )
        require(
            self.strategy in STRATEGIES,
            f"strategy is one of {', '.join(STRATEGIES)}, not {self.strategy!r}",
        )
        stage = self.stage or "main"
        plain = re.fullmatch(r"[A-Za-z0-9][\w-]*", stage) is not None and not stage.startswith("step-")
        require(plain, f"stage names a folder: letters, digits, dashes, not {stage!r}")
        if self.resume and self.out is None:
            raise TrainingError("resume=True needs out=, the folder of the run to go on with")
        if self.best is not None:
            Goal.read(self.best)
            if self.out is None:
                raise TrainingError(f"best={self.best!r} needs out=, the folder to keep the model in")
        self.factor()

    def factor(self) -> Schedule:
        """The schedule as a function of the step."""
        return schedule_from(self.schedule, self.steps, self.warmup)

    def facts(self) -> dict[str, Any]:
        """What ``run.json`` keeps, as plain JSON."""
        return {
            "seed": self.seed,
            "batch": self.batch,
            "lr": self.lr,
            "optimizer": _named(self.optimizer),
            **({"optimizers": {k: _named(v) for k, v in self.optimizers.items()}} if self.optimizers else {}),
            "weight_decay": self.weight_decay,
            "schedule": _named(self.schedule),
            "warmup": self.warmup,
            "clip": self.clip,
            "accumulate": self.accumulate,
            "precision": self.precision,
            "ema": self.ema,
            "buckets": self.buckets,
        }


def _named(value: Any) -> str:
    if isinstance(value, str):
        return value
    return getattr(value, "__name__", None) or type(value).__name__
