"""The options of ``rk.loop`` and ``rk.fit``, each declared once; torch-free.

A field of ``Options`` declares an option completely: name, type, default, help, constraint, whether a recipe has a flag for it,
and whether ``run.json`` records it.  The signatures and docstrings of ``rk.loop`` and ``rk.fit`` (``option_signatures.py``),
``rk.Launch`` and its flags (``launch.py``), the checks and ``docs/options.md`` are generated from it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

from reprkit.errors import PartArgumentError, TrainingError

if TYPE_CHECKING:
    import torch
    from torch.optim import Optimizer


# ------------------------------------------------------------------ declaration of an option


@dataclass(frozen=True)
class Constraint:
    """A constraint on a value: ``text`` completes "NAME must be ...", ``holds`` returns whether a value satisfies it."""

    text: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, kw_only=True)
class OptionDeclaration:
    """Declaration of an option, besides its name, type and default.

    Attributes:
        help: one sentence without a full stop: the help of the flag, and the first sentence of the documentation.
        more: further sentences of the documentation.
        constraint: the allowed values; None if other checks decide.
        flag: type of its flag on a recipe's command line; None for options of the recipe itself.
        recorded: whether ``run.json`` records it.
    """

    help: str
    more: str = ""
    constraint: Constraint | None = None
    flag: Any = None
    recorded: bool = False


def option(help: str, *, default: Any = MISSING, **declaration: Any) -> Any:
    """Create a field of ``Options``; the keywords are those of ``OptionDeclaration``."""
    metadata = {"declaration": OptionDeclaration(help=help, **declaration)}
    return dataclasses.field(default=default, metadata=metadata)


T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option,))
def options(cls: type[T]) -> type[T]:
    """Make a frozen dataclass whose fields are options; type checkers see which of them have a default."""
    return dataclass(frozen=True, kw_only=True)(cls)


def option_fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    """Return the options of such a class, in order."""
    return dataclasses.fields(cls)


def declaration_of(field: dataclasses.Field[Any]) -> OptionDeclaration:
    """Return the declaration of an option."""
    declaration: OptionDeclaration = field.metadata["declaration"]
    return declaration


def whole(least: int) -> Constraint:
    """Constrain to whole numbers from ``least``."""
    return Constraint(
        f"a whole number from {least}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least,
    )


def one_of(*known: str) -> Constraint:
    """Constrain to the given names."""
    return Constraint(f"one of {', '.join(known)}", lambda value: isinstance(value, str) and value in known)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _folder_name(value: Any) -> bool:
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][\w-]*", value or "main") is not None
    return plain and not value.startswith("step-")


POSITIVE = Constraint("a positive number", lambda value: _number(value) and 0 < value < math.inf)
POSITIVE_OR_NONE = Constraint("a positive number or None", lambda v: v is None or POSITIVE.holds(v))
DECAY = Constraint(
    "a number in [0, 1), or None for the optimizer's own",
    lambda value: value is None or (_number(value) and 0 <= value < 1),
)
EMA_DECAY = Constraint(
    "a number between 0 and 1, such as 0.999, or None",
    lambda value: value is None or (isinstance(value, float) and 0 < value < 1),
)
BUCKETS = Constraint(
    "True, False or a number of batches from 1",
    lambda value: isinstance(value, bool) or (isinstance(value, int) and value >= 1),
)
FOLDER_NAME = Constraint(
    "the name of a folder: letters, digits, dashes", lambda value: value is None or _folder_name(value)
)


# ------------------------------------------------------------------ the options


@options
class Options:
    """The options of ``rk.loop``.

    Raises:
        PartArgumentError: a value is out of its range; the message names the option.
        TrainingError: options conflict.
    """

    steps: int = option(
        "optimizer steps of the whole run, including those before a resume", constraint=whole(1)
    )
    batch: int = option(
        "examples per step, over all processes and pieces", default=128, constraint=whole(1), recorded=True
    )
    lr: float = option("learning rate", default=1e-3, constraint=POSITIVE, recorded=True)
    out: str | Path | None = option(
        "the run's folder: ``run.json``, ``metrics.jsonl``, ``state/``",
        default=None,
        more="None saves nothing.  Files of an earlier run are moved to ``OUT/.replaced``.",
    )
    resume: bool = option(
        "continue from the state saved in ``out``; start if there is none, return at once if the run is finished",
        default=False,
    )
    seed: int = option(
        "seed of the order of examples and of all random draws", default=0, constraint=whole(0), recorded=True
    )
    optimizer: str | Optimizer = option(
        "one of torch's optimizers: adamw, 'sgd(momentum=0.9)'",
        default="adamw",
        more="Or an instance.",
        flag=str,
        recorded=True,
    )
    optimizers: Mapping[str, str | Optimizer] | None = option(
        "optimizers of the objective's other turns: turn -> name or instance", default=None, recorded=True
    )
    weight_decay: float | None = option(
        "weight decay of weight matrices; the optimizer's own if not given",
        default=None,
        more="Biases, norms and scales have none; None uses the optimizer's own (0.01 for AdamW).",
        constraint=DECAY,
        flag=float,
        recorded=True,
    )
    schedule: str | Callable[[int], float] = option(
        "learning-rate schedule: constant, linear, cosine, exponential, 'cosine(final=0.1)'",
        default="constant",
        more="Or a function from the step to a factor.  It applies to all optimizers.",
        flag=str,
        recorded=True,
    )
    warmup: int = option(
        "steps over which the learning rate first rises from near 0",
        default=0,
        constraint=whole(0),
        flag=int,
        recorded=True,
    )
    clip: float | None = option(
        "maximum joint norm of a turn's gradients (gradient clipping)",
        default=None,
        constraint=POSITIVE_OR_NONE,
        flag=float,
        recorded=True,
    )
    accumulate: int = option(
        "split each step's batch into this many pieces (gradient accumulation), to save memory",
        default=1,
        more="The body then runs once per piece.  Pieces count alike, even if their numbers of valid tokens differ.",
        constraint=whole(1),
        flag=int,
        recorded=True,
    )
    precision: str = option(
        "fp32, or bf16: autocast, with weights and latents in float32",
        default="fp32",
        constraint=one_of("fp32", "bf16"),
        flag=str,
        recorded=True,
    )
    strategy: str = option(
        "with several processes: ddp, each holds the whole model; fsdp, each holds a shard",
        default="ddp",
        more=(
            "With fsdp (FSDP2) encoders and decoder are sharded over the processes, with their gradients and optimizer state.  "
            "All processes must then take part in saving, evaluating and ``model.save``.  The model is whole again after the loop; "
            "after a ``break`` or an error in the body, at the next loop.  Inside of the body, access encoders and decoder through "
            "the model: references from before the loop hold no weights."
        ),
        constraint=one_of("ddp", "fsdp"),
        flag=str,
    )
    device: str | torch.device | None = option(
        "cpu, cuda, cuda:1; by default a GPU if there is one", default=None, flag=str
    )
    compile: bool = option("run encoders and decoder through torch.compile", default=False, flag=bool)
    ema: float | None = option(
        "keep an exponential moving average of the weights with this decay per step, such as 0.999",
        default=None,
        more="The model has it inside of ``step.averaged()`` and after the loop.",
        constraint=EMA_DECAY,
        flag=float,
        recorded=True,
    )
    workers: int = option(
        "worker processes that prepare batches; 0 is fastest for data in memory",
        default=0,
        more=(
            "It does not change the run, unless examples are drawn at random (then any number from 1 gives the same run)."
        ),
        constraint=whole(0),
        flag=int,
    )
    buckets: bool | int = option(
        "if lengths vary, put examples of similar length into a batch",
        default=False,
        more=(
            "Batches then hold less padding: this many batches (True: 50) are sorted together.  An epoch has the same examples."
        ),
        constraint=BUCKETS,
        flag=bool,
        recorded=True,
    )
    save_every: float | None = option(
        "seconds between two saved states",
        default=600.0,
        more=(
            "One is always saved at the end, on SIGTERM (which then ends the process with code 143) and on Ctrl-C."
        ),
        constraint=POSITIVE_OR_NONE,
        flag=float,
    )
    keep: int = option("saved states to keep", default=1, constraint=whole(1), flag=int)
    best: str | None = option(
        "save the best model by a logged metric: 'min reconstruction.error', 'max knn.accuracy'",
        default=None,
        more=(
            "It is in ``OUT/best``, for ``rk.load``; 'min loss' and 'min kl' are metrics, too.  It is saved when a line of "
            "metrics has a value better than all before, with the averaged weights if ``step.log`` is called inside of "
            "``step.averaged()``.  'min' may be omitted for errors and losses, 'max' for accuracies.  The first results passed "
            "to ``step.log`` must contain the metric."
        ),
        flag=str,
    )
    log_every: int = option(
        "steps between two lines of metrics that the loop logs itself; 0 logs by ``step.log`` only",
        default=50,
        constraint=whole(0),
    )
    progress: bool | None = option(
        "show a progress bar; None shows it on a terminal, and elsewhere prints a line every 30 seconds",
        default=None,
    )
    track: str | tuple[str, ...] = option(
        "also send metrics to tensorboard or wandb; repeat the flag for several",
        default=(),
        flag=tuple[str, ...],
    )
    stage: str | None = option(
        "name of this loop in a recipe with several loops", default=None, constraint=FOLDER_NAME
    )
    extras: Mapping[str, Any] | None = option(
        "name -> other objects whose state is saved and restored (a teacher, a bank of negatives)",
        default=None,
        more="Modules, which are also moved to the device, or anything with ``state_dict`` and ``load_state_dict``.",
    )

    def __post_init__(self) -> None:
        """Check every value against its constraint, then conflicts between options."""
        for field in option_fields(self):
            constraint, value = declaration_of(field).constraint, getattr(self, field.name)
            if constraint is not None and not constraint.holds(value):
                raise PartArgumentError(f"{field.name} must be {constraint.text}, not {value!r}")
        if self.resume and self.out is None:
            raise TrainingError("resume=True needs out=, the folder of the run to resume")
        if self.best is not None:
            from reprkit.training.best import Goal

            Goal.parse(self.best)
            if self.out is None:
                raise TrainingError(f"best={self.best!r} needs out=, the folder to save the model in")
        self.schedule_factor()

    @property
    def folder(self) -> Path | None:
        """``out`` as a path, or None."""
        return None if self.out is None else Path(self.out)

    @property
    def trackers(self) -> tuple[str, ...]:
        """``track`` as a tuple of names."""
        return (self.track,) if isinstance(self.track, str) else tuple(self.track)

    def schedule_factor(self) -> Callable[[int], float]:
        """Return the schedule as a function of the step.

        Raises:
            PartArgumentError: the schedule is unknown, or the warmup is longer than the run.
        """
        from reprkit.training.schedules import schedule_from

        return schedule_from(self.schedule, self.steps, self.warmup)

    def to_json(self) -> dict[str, Any]:
        """Return what ``run.json`` records, as plain JSON."""
        values = {f.name: getattr(self, f.name) for f in option_fields(self) if declaration_of(f).recorded}
        if not values["optimizers"]:
            del values["optimizers"]
        return {name: _plain(value) for name, value in values.items()}


@options
class FitOptions(Options):
    """The options of ``rk.fit``: those of ``rk.loop``, and its own."""

    valid: Any = option("the data set to evaluate on; without it nothing is evaluated", default=None)
    evaluators: Sequence[str] = option(
        "evaluators to run, as for ``rk.evaluate``", default=("reconstruction",)
    )
    evaluate_every: int | None = option(
        "steps between two evaluations during training; None evaluates at the end only", default=None
    )

    def __post_init__(self) -> None:
        """Check that the metric of the best model is measured."""
        super().__post_init__()
        best = self.best
        if isinstance(best, str) and "." in best and (self.valid is None or not self.evaluate_every):
            raise TrainingError(
                f"best={best!r} is a metric of evaluators: pass valid=, and evaluate_every=, the steps between two evaluations"
            )


def _plain(value: Any) -> Any:
    """Convert a value to JSON: an optimizer or a function becomes its name."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__name__", None) or type(value).__name__
