"""``rk.loop`` and ``rk.fit``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from reprkit import distributed
from reprkit.errors import TrainingError
from reprkit.filenames import MODEL
from reprkit.model import Model
from reprkit.training.looping import Loop
from reprkit.training.options import Options
from reprkit.training.run import Run


def loop(
    model: Model,
    data: Any,
    *,
    steps: int,
    batch: int = 128,
    lr: float = 1e-3,
    out: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
    optimizer: str | Optimizer = "adamw",
    optimizers: Mapping[str, str | Optimizer] | None = None,
    weight_decay: float | None = None,
    schedule: str | Callable[[int], float] = "constant",
    warmup: int = 0,
    clip: float | None = None,
    accumulate: int = 1,
    precision: str = "fp32",
    strategy: str = "ddp",
    device: str | torch.device | None = None,
    compile: bool = False,
    ema: float | None = None,
    workers: int = 0,
    buckets: bool | int = False,
    save_every: float | None = 600.0,
    keep: int = 1,
    best: str | None = None,
    log_every: int = 50,
    progress: bool | None = None,
    track: str | tuple[str, ...] = (),
    stage: str | None = None,
    extras: Mapping[str, Any] | None = None,
) -> Loop:
    """The steps of a training run, to be gone through by a body of one's own.

    ::

        for step in rk.loop(model, train, steps=2_000, out="runs/first"):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()

    The same lines run on a CPU, on a GPU, and under ``torchrun``: every process takes its part of each batch.  Two runs with the
    same arguments are equal; a run that was killed and resumed equals one that was not (on the CPU, bit by bit).  Afterwards the
    model is in evaluation mode, on the device where it was trained.

    Args:
        model: what ``rk.build`` or ``rk.load`` gave.
        data: a data set to train on, or a reference to one.
        steps: optimiser steps of the whole run, those before a resume included.
        batch: examples a step, over all processes and pieces.
        lr: learning rate.
        out: the run's folder: ``run.json``, ``metrics.jsonl``, ``state/``.  None keeps nothing.  What an earlier run left there
            moves to ``OUT/.replaced``.
        resume: go on from the state saved in ``out``; start when there is none, return at once when the run is finished.
        seed: of the order of examples and of all random draws.
        optimizer: one of torch's by name (``"adamw"``, ``"sgd(momentum=0.9)"``), or an instance.
        optimizers: for the objective's other turns: turn -> name or instance.
        weight_decay: on weight matrices, not on biases, norms and scales; None takes the optimiser's own (0.01 for AdamW).
        schedule: "constant", "linear", "cosine", "exponential", each with ``(final=...)``, or a function from the step to a
            factor; it holds for all optimisers.
        warmup: steps over which the rate first rises from near 0.
        clip: largest joint norm of a turn's gradients.
        accumulate: cut each step into so many pieces, which need that much less memory; the body then runs once a piece.  Where
            pieces hold different numbers of valid tokens, each piece counts alike.
        precision: "fp32" or "bf16" (autocast; weights and latents stay in float32).
        strategy: under several processes: "ddp", each holds the whole model; or "fsdp" (FSDP2), encoders and decoder are cut into
            a shard for each, with their gradients and moments.  Saving, evaluating and ``model.save`` are then all processes'
            business.  When the loop has come to its end the model is whole again; one that a body has left by ``break`` or an
            error is so at the next loop.
        device: "cpu", "cuda", "cuda:1"; a GPU when there is one.
        compile: run encoders and decoder through ``torch.compile``.
        ema: keep an average of the weights that forgets by this factor a step (0.999); ``step.averaged()`` looks at it, and the
            model has it when the loop ends.
        workers: processes that prepare batches; 0 is fastest for data in memory.  The run is the same, unless examples are drawn at
            random (then it is the same for any number from 1 on).
        buckets: where lengths vary, put examples of similar length into a batch, which then holds less padding: that many batches
            (True: 50) are sorted together.  An epoch still has the same examples.
        save_every: seconds between two saved states; one is always saved at the end, on SIGTERM (which then ends the process with
            code 143) and on Ctrl-C.
        keep: saved states to keep.
        best: keep the best model by a metric that is logged, in ``OUT/best`` (for ``rk.load``): "min reconstruction.error", "max
            knn.accuracy", "min loss", "min kl".  It is saved when a line of metrics brings a value better than all before, with
            the averaged weights if ``step.log`` is called inside of ``step.averaged()``.  "min" may be left out of errors and
            losses, "max" of accuracies.  The first results that ``step.log`` gets must have the metric.
        log_every: steps between two lines of metrics of the loop's own; 0 leaves it to ``step.log``.
        progress: show a progress bar; None does so on a terminal, for what takes over a second.
        track: "tensorboard", "wandb": where metrics go too.
        stage: name of this loop in a recipe of several.
        extras: name -> what else has a state to save and restore (a teacher, a bank of negatives): modules, which are moved to the
            device too, or anything with ``state_dict`` and ``load_state_dict``.

    Raises:
        PartArgumentError: an argument out of its range.
        TrainingError: arguments that do not go together; a state that cannot be resumed; later a loss that is not finite, or no
            memory left.
        DataError: more in a batch than there are examples, or not divisible by the processes.
    """
    options = Options(
        steps=steps, batch=batch, lr=lr, out=None if out is None else Path(out), resume=resume, seed=seed,
        optimizer=optimizer, optimizers=dict(optimizers or {}), weight_decay=weight_decay, schedule=schedule, warmup=warmup,
        clip=clip, accumulate=accumulate, precision=precision, strategy=strategy, device=device, compile=compile,
        ema=ema, workers=workers, buckets=buckets, save_every=save_every, keep=keep, best=best, log_every=log_every,
        progress=progress, track=(track,) if isinstance(track, str) else tuple(track), stage=stage, extras=dict(extras or {}),
    )  # fmt: skip
    return Loop(model, data, options)


def fit(
    model: Model,
    train: Any,
    *,
    steps: int,
    valid: Any = None,
    evaluators: Sequence[str] = ("reconstruction",),
    evaluate_every: int | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Run:
    """The loop for those who do not want to write it: train, evaluate, save the model, write the report.

    Args:
        model: what ``rk.build`` gave.
        train: the data set to train on; evaluators fit what they fit (probes) on it too.
        steps: optimiser steps.
        valid: the data set to evaluate on; without one nothing is evaluated.
        evaluators: references, as for ``rk.evaluate``.
        evaluate_every: steps between two evaluations while it trains; None evaluates at the end only.
        out: the run's folder; None keeps everything in memory.
        options: as for ``rk.loop``: batch, lr, schedule, resume, device, ...

    Returns:
        The run: ``.model``, ``.metrics``, ``.results``.

    Raises:
        CheckpointError: at the start, when ``out`` is given and the model is one that cannot be saved.
        TrainingError: as for ``rk.loop``; ``best`` by an evaluator's metric, and nothing is evaluated while it trains.
    """
    best = options.get("best")
    if isinstance(best, str) and "." in best and (valid is None or not evaluate_every):
        raise TrainingError(
            f"best={best!r} is a metric of evaluators: give valid=, and evaluate_every=, the steps between two evaluations"
        )
    if out is not None:
        from reprkit.manifest import describe

        describe(model)  # rather now than after hours
    steps_taken = loop(model, train, steps=steps, out=out, **options)
    for step in steps_taken:
        for turn in model.objective.turns:
            losses = step.model(step.batch, turn)
            step.backward(losses.total)
            step.update(turn)
        if valid is not None and evaluate_every and step.every(evaluate_every):
            with step.averaged():
                step.log(losses, _evaluated(model, valid, train, evaluators))
    results = {} if valid is None else _evaluated(model, valid, train, evaluators)
    if out is not None:
        model.save(Path(out) / MODEL)
        if distributed.rank() == 0:
            from reprkit.reporting import report

            report(out, results)
    return Run(out, model, steps_taken.journal.lines, results)


def _evaluated(model: Model, valid: Any, train: Any, evaluators: Sequence[str]) -> Any:
    from reprkit.evaluation import evaluate

    return evaluate(model, valid, *evaluators, fit_on=train)
