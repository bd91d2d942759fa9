"""The options of ``rk.loop`` and ``rk.fit``, each declared once; torch-free.

A field of ``Options`` is the whole declaration of an option: name, type, default, text, constraint, whether a recipe has a flag
for it, whether ``run.json`` keeps it.  The signatures and docstrings of ``rk.loop`` and ``rk.fit`` (``training/signatures.py``),
``rk.Launch`` and its flags (``flags.py``), the checks and ``docs/options.md`` are made from it.
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


# ------------------------------------------------------------------ how an option is declared


@dataclass(frozen=True)
class Constraint:
    """What a value must be: ``text`` completes the sentence "NAME is ...", ``holds`` says whether a value is."""

    text: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, kw_only=True)
class OptionDeclaration:
    """What is declared of an option besides its name, type and default.

    Attributes:
        help: one sentence, without a full stop: the text of the flag, and the first sentence of the documentation.
        more: further sentences of the documentation.
        constraint: what values it takes; None where other checks decide.
        flag: the type that its flag on a recipe's command line takes; None for what belongs to the recipe.
        recorded: whether ``run.json`` keeps it.
    """

    help: str
    more: str = ""
    constraint: Constraint | None = None
    flag: Any = None
    recorded: bool = False


def option(help: str, *, default: Any = MISSING, **declaration_of: Any) -> Any:
    """A field of ``Options``; the keywords are those of ``OptionDeclaration``."""
    metadata = {"about": OptionDeclaration(help=help, **declaration_of)}
    return dataclasses.field(default=default, metadata=metadata)


T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(option,))
def options(cls: type[T]) -> type[T]:
    """A frozen dataclass whose fields are options; type checkers know which of them have a default."""
    return dataclass(frozen=True, kw_only=True)(cls)


def option_fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    """The options of such a class, in their order."""
    return dataclasses.fields(cls)


def declaration_of(field: dataclasses.Field[Any]) -> OptionDeclaration:
    """What is declared of an option."""
    found: OptionDeclaration = field.metadata["about"]
    return found


def whole(least: int) -> Constraint:
    """A whole number from ``least``."""
    return Constraint(
        f"a whole number from {least}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least,
    )


def one_of(*known: str) -> Constraint:
    """One of some names."""
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
        PartArgumentError: a value out of its range, naming the option.
        TrainingError: options that do not go together.
    """

    steps: int = option(
        "optimizer steps of the whole run, those before a resume included", constraint=whole(1)
    )
    batch: int = option(
        "examples a step, over all processes and pieces", default=128, constraint=whole(1), recorded=True
    )
    lr: float = option("learning rate", default=1e-3, constraint=POSITIVE, recorded=True)
    out: str | Path | None = option(
        "the run's folder: ``run.json``, ``metrics.jsonl``, ``state/``",
        default=None,
        more="None keeps nothing.  What an earlier run left there moves to ``OUT/.replaced``.",
    )
    resume: bool = option(
        "go on from the state saved in ``out``; start when there is none, return at once when the run is finished",
        default=False,
    )
    seed: int = option(
        "of the order of examples and of all random draws", default=0, constraint=whole(0), recorded=True
    )
    optimizer: str | Optimizer = option(
        "one of torch's: adamw, 'sgd(momentum=0.9)'",
        default="adamw",
        more="Or an instance.",
        flag=str,
        recorded=True,
    )
    optimizers: Mapping[str, str | Optimizer] | None = option(
        "for the objective's other turns: turn -> name or instance", default=None, recorded=True
    )
    weight_decay: float | None = option(
        "on weight matrices; the optimizer's own when not given",
        default=None,
        more="Biases, norms and scales have none; None takes the optimizer's own (0.01 for AdamW).",
        constraint=DECAY,
        flag=float,
        recorded=True,
    )
    schedule: str | Callable[[int], float] = option(
        "of the learning rate: constant, linear, cosine, exponential, 'cosine(final=0.1)'",
        default="constant",
        more="Or a function from the step to a factor.  It holds for all optimizers.",
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
        "largest joint norm of a turn's gradients",
        default=None,
        constraint=POSITIVE_OR_NONE,
        flag=float,
        recorded=True,
    )
    accumulate: int = option(
        "cut each step's batch into so many pieces, which need that much less memory",
        default=1,
        more="The body then runs once a piece.  Where pieces hold different numbers of valid tokens, each piece counts alike.",
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
        "under several processes: ddp, each holds the whole model; fsdp, each holds a shard",
        default="ddp",
        more=(
            "With fsdp (FSDP2) encoders and decoder are cut into a shard for each process, with their gradients and optimizer "
            "state.  Saving, evaluating and ``model.save`` then need all processes.  When the loop has come to its end the model "
            "is whole again; one that a body has left by ``break`` or an error is so at the next loop.  Inside of the body, take "
            "encoders and decoder from the model anew: those taken before it hold no weights."
        ),
        constraint=one_of("ddp", "fsdp"),
        flag=str,
    )
    device: str | torch.device | None = option(
        "cpu, cuda, cuda:1; a GPU when there is one", default=None, flag=str
    )
    compile: bool = option("run encoders and decoder through torch.compile", default=False, flag=bool)
    ema: float | None = option(
        "keep an average of the weights that forgets by this factor a step, such as 0.999",
        default=None,
        more="``step.averaged()`` looks at it, and the model has it when the loop ends.",
        constraint=EMA_DECAY,
        flag=float,
        recorded=True,
    )
    workers: int = option(
        "processes that prepare batches; 0 is fastest for data in memory",
        default=0,
        more=(
            "The run is the same, unless examples are drawn at random (then it is the same for any number from 1 on)."
        ),
        constraint=whole(0),
        flag=int,
    )
    buckets: bool | int = option(
        "where lengths vary, put examples of similar length into a batch",
        default=False,
        more=(
            "It then holds less padding: that many batches (True: 50) are sorted together.  An epoch still has the same examples."
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
        "keep the best model by a logged metric: 'min reconstruction.error', 'max knn.accuracy'",
        default=None,
        more=(
            "It is in ``OUT/best``, for ``rk.load``; 'min loss' and 'min kl' are metrics, too.  It is saved when a line of "
            "metrics brings a value better than all before, with the averaged weights if ``step.log`` is called inside of "
            "``step.averaged()``.  'min' may be left out of errors and losses, 'max' of accuracies.  The first results that "
            "``step.log`` gets must have the metric."
        ),
        flag=str,
    )
    log_every: int = option(
        "steps between two lines of metrics of the loop's own; 0 leaves it to ``step.log``",
        default=50,
        constraint=whole(0),
    )
    progress: bool | None = option(
        "show a progress bar; None shows it on a terminal, and elsewhere writes a line every 30 seconds",
        default=None,
    )
    track: str | tuple[str, ...] = option(
        "tensorboard or wandb: where metrics go too; say it again for more",
        default=(),
        flag=tuple[str, ...],
    )
    stage: str | None = option(
        "name of this loop in a recipe of several", default=None, constraint=FOLDER_NAME
    )
    extras: Mapping[str, Any] | None = option(
        "name -> what else has a state to save and restore (a teacher, a bank of negatives)",
        default=None,
        more="Modules, which are moved to the device too, or anything with ``state_dict`` and ``load_state_dict``.",
    )

    def __post_init__(self) -> None:
        """Check every value by its constraint, then those that must go together."""
        for field in option_fields(self):
            constraint, value = declaration_of(field).constraint, getattr(self, field.name)
            if constraint is not None and not constraint.holds(value):
                raise PartArgumentError(f"{field.name} is {constraint.text}, not {value!r}")
        if self.resume and self.out is None:
            raise TrainingError("resume=True needs out=, the folder of the run to go on with")
        if self.best is not None:
            from reprkit.training.best import Goal

            Goal.parse(self.best)
            if self.out is None:
                raise TrainingError(f"best={self.best!r} needs out=, the folder to keep the model in")
        self.schedule_factor()

    @property
    def folder(self) -> Path | None:
        """``out`` as a path."""
        return None if self.out is None else Path(self.out)

    @property
    def trackers(self) -> tuple[str, ...]:
        """``track`` as names."""
        return (self.track,) if isinstance(self.track, str) else tuple(self.track)

    def schedule_factor(self) -> Callable[[int], float]:
        """The schedule as a function of the step.

        Raises:
            PartArgumentError: an unknown schedule, or a warmup longer than the run.
        """
        from reprkit.training.schedules import schedule_from

        return schedule_from(self.schedule, self.steps, self.warmup)

    def to_json(self) -> dict[str, Any]:
        """What ``run.json`` keeps, as plain JSON."""
        kept = {f.name: getattr(self, f.name) for f in option_fields(self) if declaration_of(f).recorded}
        if not kept["optimizers"]:
            del kept["optimizers"]
        return {name: _plain(value) for name, value in kept.items()}


@options
class FitOptions(Options):
    """The options of ``rk.fit``: those of ``rk.loop``, and its own."""

    valid: Any = option("the data set to evaluate on; without one nothing is evaluated", default=None)
    evaluators: Sequence[str] = option("references, as for ``rk.evaluate``", default=("reconstruction",))
    evaluate_every: int | None = option(
        "steps between two evaluations while it trains; None evaluates at the end only", default=None
    )

    def __post_init__(self) -> None:
        """Check that the best model is chosen by something that is measured."""
        super().__post_init__()
        best = self.best
        if isinstance(best, str) and "." in best and (self.valid is None or not self.evaluate_every):
            raise TrainingError(
                f"best={best!r} is a metric of evaluators: give valid=, and evaluate_every=, the steps between two evaluations"
            )


def _plain(value: Any) -> Any:
    """A value as JSON: an optimizer or a function by its name."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__name__", None) or type(value).__name__
