"""The options of ``rk.loop`` and ``rk.fit``, each declared once; torch-free.

A field of ``Options`` declares an option completely: name, type and constraints (annotated as in parts), default, help, whether a
recipe has a flag for it, and whether ``run.json`` records it.  The signatures and docstrings of ``rk.loop`` and ``rk.fit``
(``option_signatures.py``), ``rk.Launch`` and its flags (``launch.py``), the checks and ``docs/options.md`` are generated from it.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, dataclass_transform

from annotated_types import Ge, Gt, Lt, Predicate

from reprkit.errors import TrainingError
from reprkit.registry.constraints import BelowOne, Count, CountOrZero, Positive, Seed, check_values
from reprkit.training.strategies import strategy_from
from reprkit.training.time_limit import parse_duration

if TYPE_CHECKING:
    import torch
    from torch.optim import Optimizer


# ------------------------------------------------------------------ declaration of an option


@dataclass(frozen=True, kw_only=True)
class OptionDeclaration:
    """Declaration of an option, besides its name, type and default.

    Attributes:
        help: one sentence without a full stop: the help of the flag, and the first sentence of the documentation.
        more: further sentences of the documentation.
        flag: type of its flag on a recipe's command line; None for options of the recipe itself.
        recorded: whether ``run.json`` records it.
    """

    help: str
    more: str = ""
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


def option_types(cls: Any) -> dict[str, Any]:
    """Return the annotations of the options with their constraints; types of torch, which is not imported, are ``Any``."""
    unresolved = {"torch": types.SimpleNamespace(device=Any), "Optimizer": Any}
    return typing.get_type_hints(cls, localns=unresolved, include_extras=True)


def folder_name(value: str) -> bool:
    """Whether a string can name a stage's folder: letters, digits and dashes, and not a saved state's name."""
    return re.fullmatch(r"[A-Za-z0-9][\w-]*", value) is not None and not value.startswith("step-")


# ------------------------------------------------------------------ the options


@options
class Options:
    """The options of ``rk.loop``.

    Raises:
        PartArgumentError: a value is out of its range; the message names the option.
        TrainingError: options conflict.
    """

    function: ClassVar[str] = "rk.loop"  # whose options these are, for messages

    steps: Count = option("optimizer steps of the whole run, including those before a resume")
    batch: Count = option("examples per step, over all processes and pieces", default=128, recorded=True)
    lr: Positive = option("learning rate", default=1e-3, recorded=True)
    out: str | Path | None = option(
        "the run's folder: ``run.json``, ``metrics.jsonl``, ``state/``",
        default=None,
        more=(
            "None saves nothing.  A folder that holds a run is refused, unless ``resume`` or ``overwrite`` says what to do with it."
        ),
    )
    resume: bool = option(
        "continue from the state saved in ``out``; start if there is none, return at once if the run is finished",
        default=False,
    )
    overwrite: bool = option(
        "replace the run that the folder holds",
        default=False,
        more="Its files are moved to ``OUT/.replaced`` and kept there until the next replacement.",
        flag=bool,
    )
    seed: Seed = option("seed of the order of examples and of all random draws", default=0, recorded=True)
    optimizer: str | Optimizer = option(
        "one of torch's optimizers: adamw, muon, 'sgd(momentum=0.9)'",
        default="adamw",
        more=(
            "Or an instance.  One that evaluates the loss several times a step, such as "
            "'lbfgs(lr=1, line_search_fn=\"strong_wolfe\")', needs ``step.update(closure=...)``."
        ),
        flag=str,
        recorded=True,
    )
    optimizers: Mapping[str, str | Optimizer] | None = option(
        "optimizers of the objective's other turns: turn -> name or instance", default=None, recorded=True
    )
    weight_decay: BelowOne | None = option(
        "weight decay of weight matrices; the optimizer's own if not given",
        default=None,
        more="Biases, norms and scales have none; None uses the optimizer's own (0.01 for AdamW).",
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
    warmup: CountOrZero = option(
        "steps over which the learning rate first rises from near 0",
        default=0,
        flag=int,
        recorded=True,
    )
    clip: Positive | None = option(
        "maximum joint norm of a turn's gradients (gradient clipping)",
        default=None,
        flag=float,
        recorded=True,
    )
    accumulate: Count = option(
        "split each step's batch into this many pieces (gradient accumulation), to save memory",
        default=1,
        more="The body then runs once per piece.  Pieces count alike, even if their numbers of valid tokens differ.  Where "
        "examples are compared (contrastive losses, statistics of the batch) the pieces are joined exactly, by two more forward "
        "passes, and the body must call ``step.model(step.batch)`` once for each piece.",
        flag=int,
        recorded=True,
    )
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = option(
        "fp32; bf16: autocast, with weights and latents in float32; fp16: that, for devices without bf16; fp64: all in float64",
        default="fp32",
        more=(
            "fp16 scales the loss, so that small gradients do not vanish: gradients are multiplied by the scale between "
            "``step.backward`` and ``step.update``.  A step whose gradients overflow changes no weights (metrics "
            "``skipped_steps`` and ``loss_scale``).  After fp64 the model stays in float64, and is saved and loaded so."
        ),
        flag=str,
        recorded=True,
    )
    freeze: str | tuple[str, ...] | None = option(
        "parts that are not trained: encoder, latent, decoder, adapters, objective, or a factor's, such as content.encoder",
        default=None,
        more=(
            "They stay as they are in evaluation, until another ``freeze``; a checkpoint records them.  None leaves what was "
            "frozen before, () freezes nothing: see ``Model.freeze``."
        ),
        flag=tuple[str, ...],
        recorded=True,
    )
    strategy: str = option(
        "how several processes share the model: ddp, fsdp, hsdp or tp",
        default="ddp",
        more=(
            "ddp: each holds the whole model.  fsdp (FSDP2): encoders and decoder are sharded over the processes, with their "
            "gradients and optimizer state.  hsdp (hybrid sharding): each group of processes, by default those of a machine, holds "
            "the model in shards, and gathers weights within the group only; 'hsdp(shards=4)' has groups of four.  tp (tensor "
            "parallelism): the processes of such a group divide the heads and MLPs of transformer blocks, and compute the same "
            "examples; 'tp(shards=2)' has groups of two.  With all but ddp "
            "all processes must take part in saving, evaluating and ``model.save``.  The model is whole again after the loop; "
            "after a ``break`` or an error in the body, at the next loop.  Inside of the body, access encoders and decoder through "
            "the model: references from before the loop hold no weights."
        ),
        flag=str,
    )
    device: str | torch.device | None = option(
        "cpu, cuda, cuda:1; by default a GPU if there is one", default=None, flag=str
    )
    compile: bool = option("run encoders and decoder through torch.compile", default=False, flag=bool)
    recompute: bool = option(
        "compute the blocks of encoders and decoders again in the backward pass (activation checkpointing), to save memory",
        default=False,
        more="It takes about a third more time, and changes no value.  A model without blocks is refused.",
        flag=bool,
    )
    ema: Annotated[float, Gt(0), Lt(1)] | None = option(
        "keep an exponential moving average of the weights with this decay per step, such as 0.999",
        default=None,
        more="The model has it inside of ``step.averaged()`` and after the loop.",
        flag=float,
        recorded=True,
    )
    workers: CountOrZero = option(
        "worker processes that prepare batches; 0 is fastest for data in memory",
        default=0,
        more=(
            "It does not change the run, unless examples are drawn at random (then any number from 1 gives the same run)."
        ),
        flag=int,
    )
    buckets: bool | Count = option(
        "if lengths vary, put examples of similar length into a batch",
        default=False,
        more=(
            "Batches then hold less padding: this many batches (True: 50) are sorted together.  An epoch has the same examples."
        ),
        flag=bool,
        recorded=True,
    )
    groups: str | None = option(
        "label field whose examples are put into a batch together, ``mates`` of each label",
        default=None,
        more="For objectives that compare members of a group, such as ``grouped``.  An epoch has the same examples.",
        recorded=True,
    )
    mates: Annotated[int, Ge(2)] = option(
        "examples of a label that are put into a batch together, with ``groups``",
        default=2,
        recorded=True,
    )
    extra: Mapping[str, Any] | None = option(
        "name -> a further data set, or (data set, examples a step), whose batch of each step is ``step.extra[name]``",
        default=None,
        more="By default with as many examples a step as ``batch``.  Its order depends on the seed and the name.",
    )
    save_every: Positive | None = option(
        "seconds between two saved states",
        default=600.0,
        more=(
            "One is always saved at the end, on SIGTERM (which then ends the process with code 143), on SIGUSR1, which batch "
            "systems send before they end a job (code 75), and on Ctrl-C."
        ),
        flag=float,
    )
    time_limit: Positive | str | None = option(
        "time that the process may take, from its start, such as 30m, 12h, 1-12:00:00: the loop saves and stops before it",
        default=None,
        more=(
            "A number is in seconds.  The process then ends with code 75, and ``resume`` continues.  It stops early by 5 % of the "
            "limit, 2 minutes at most, or by twice the longest step and save, if these take longer."
        ),
        flag=str,
    )
    keep: Count = option("saved states to keep", default=1, flag=int)
    saving: Literal["gathered", "sharded"] = option(
        "how states are saved: gathered, process 0 writes one file while all wait; sharded, each process writes its part while "
        "training goes on",
        default="gathered",
        more=(
            "Sharded is for large models, also in one process: a step waits only until its tensors are copied to host memory, "
            "which must hold them beside the run.  The next save starts once the one before is written.  Either form resumes "
            "under any strategy and number of processes."
        ),
        flag=str,
    )
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
    probes: str | tuple[str, ...] = option(
        "evaluators to run while the model trains, such as knn, linear-probe, rankme; repeat the flag for several",
        default=(),
        more="Their metrics are logged as ``probes.knn.accuracy`` before the first step and every ``probe_every`` steps, with the "
        "averaged weights where there is ``ema``.  Weights, statistics and random states are those of a run without them.  They "
        "are fitted on at most 2,000 training examples and measured on 1,000 others.",
        flag=tuple[str, ...],
    )
    probe_every: Count | None = option(
        "steps between two measurements of ``probes``; 10 over the run if not given", default=None, flag=int
    )
    probe_data: Any = option(
        "the data set to measure ``probes`` on",
        default=None,
        more="None measures on examples of the training data that the probes are not fitted on, though the model trains on them; "
        "``rk.fit`` takes its ``valid``.",
    )
    log_every: CountOrZero | None = option(
        "steps between two lines of metrics that the loop logs itself; 0 logs by ``step.log`` only",
        default=None,
        more="None is 50, or fewer in runs of under 1,000 steps, so that a curve has 20 points.",
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
    stage: Annotated[str, Predicate(folder_name)] | None = option(
        "name of this loop in a recipe with several loops", default=None
    )
    extras: Mapping[str, Any] | None = option(
        "name -> other objects whose state is saved and restored (a teacher, a bank of negatives)",
        default=None,
        more="Modules, which are also moved to the device, or anything with ``state_dict`` and ``load_state_dict``.",
    )

    def __post_init__(self) -> None:
        """Check every value against its constraint, then conflicts between options."""
        values = {field.name: getattr(self, field.name) for field in option_fields(self)}
        for name, value in check_values(option_types(type(self)), values, self.function).items():
            object.__setattr__(self, name, value)
        if self.resume and self.out is None:
            raise TrainingError("resume=True needs out=, the folder of the run to resume")
        if self.resume and self.overwrite:
            raise TrainingError(
                "resume=True continues the run in out=, overwrite=True replaces it: pass one of them"
            )
        if self.best is not None:
            from reprkit.training.best import Goal

            Goal.parse(self.best)
            if self.out is None:
                raise TrainingError(f"best={self.best!r} needs out=, the folder to save the model in")
        if self.time_limit is not None:
            parse_duration(self.time_limit)
            if self.out is None:
                raise TrainingError(
                    f"time_limit={self.time_limit!r} needs out=, the folder to save the state in"
                )
        if not self.probes and (self.probe_every is not None or self.probe_data is not None):
            raise TrainingError(
                "probe_every= and probe_data= belong to probes=, the evaluators to run: probes='knn'"
            )
        self.schedule_factor()
        strategy_from(self.strategy, self.function)

    @property
    def folder(self) -> Path | None:
        """``out`` as a path, or None."""
        return None if self.out is None else Path(self.out)

    @property
    def trackers(self) -> tuple[str, ...]:
        """``track`` as a tuple of names."""
        return (self.track,) if isinstance(self.track, str) else tuple(self.track)

    @property
    def probe_references(self) -> tuple[str, ...]:
        """``probes`` as a tuple of references."""
        return (self.probes,) if isinstance(self.probes, str) else tuple(self.probes)

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
        for name in ("optimizers", "freeze", "groups"):
            if not values[name]:
                del values[name]
        if self.groups is None:
            del values["mates"]
        return {name: _plain(value) for name, value in values.items()}


@options
class FitOptions(Options):
    """The options of ``rk.fit``: those of ``rk.loop``, and its own."""

    function = "rk.fit"

    valid: Any = option("the data set to evaluate on; without it nothing is evaluated", default=None)
    evaluators: Sequence[str] = option(
        "evaluators to run, as for ``rk.evaluate``", default=("reconstruction",)
    )
    evaluate_every: Count | None = option(
        "steps between two evaluations during training; None evaluates at the end only", default=None
    )

    def __post_init__(self) -> None:
        """Check that the metric of the best model is measured."""
        super().__post_init__()
        if self.extra:
            raise TrainingError(
                "rk.fit trains on one data set: use extra= in rk.loop, whose body reads step.extra"
            )
        best = self.best
        probed = isinstance(best, str) and best.split()[-1].startswith("probes.") and self.probes
        if (
            isinstance(best, str)
            and "." in best
            and not probed
            and (self.valid is None or not self.evaluate_every)
        ):
            raise TrainingError(
                f"best={best!r} is a metric of evaluators: pass valid=, and evaluate_every=, the steps between two evaluations"
            )


def _plain(value: Any) -> Any:
    """Convert a value to JSON: an optimizer or a function becomes its name."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return getattr(value, "__name__", None) or type(value).__name__
