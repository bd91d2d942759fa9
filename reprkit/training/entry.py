"""``rk.loop`` and ``rk.fit``."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from reprkit.data.resolve import is_source
from reprkit.errors import BuildError, DataError
from reprkit.models.model import Model
from reprkit.registry.references import Reference
from reprkit.runs.filenames import MODEL
from reprkit.runs.results import Results
from reprkit.runs.run import Run
from reprkit.training.loop_iterator import Loop
from reprkit.training.option_signatures import with_options
from reprkit.training.options import FitOptions, Options
from reprkit.training.step import Step
from reprkit.types import Losses
from reprkit.utils import collectives
from reprkit.utils.process_state import unchanged_process


@with_options(Options)
def loop(model: Model, data: Any, options: Options) -> Loop:
    """Iterate over the steps of a training run; the body of the loop is your own.

    ::

        for step in rk.loop(model, train, steps=2_000, out="runs/first"):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()

    The same lines run on a CPU, on a GPU, and under ``torchrun``: every process gets its part of each batch.  Two runs with the
    same arguments are equal; a run that was killed and resumed equals an uninterrupted one (on the CPU, bit by bit).  Afterwards
    the model is in evaluation mode, on the device where it was trained.

    Args:
        model: from ``rk.build`` or ``rk.load``.
        data: the data set to train on, or a reference to one.
        options: as declared in ``reprkit.training.options``.

    Raises:
        PartArgumentError: an argument out of its range.
        TrainingError: conflicting arguments, or a state that cannot be resumed; later, a loss that is not finite, or out of
            memory.
        DataError: the batch is larger than the data set, or not divisible by the number of processes.
    """
    return Loop(*_check_order(model, data, "rk.loop"), options)


@with_options(FitOptions)
def fit(model: Model, train: Any, options: FitOptions) -> Run:
    """Train, evaluate, save the model and write the report: ``rk.loop`` with a ready-made body.

    Args:
        model: from ``rk.build``.
        train: the data set to train on; evaluators also fit their probes on it.
        options: as declared in ``reprkit.training.options``.

    Returns:
        The run: ``.model``, ``.metrics``, ``.results``.

    Raises:
        CheckpointError: at the start, if ``out`` is given and the model cannot be saved.
        TrainingError: as for ``rk.loop``; or ``best`` is an evaluator's metric and nothing is evaluated during training.
    """
    model, train = _check_order(model, train, "rk.fit")
    if options.probes and options.probe_data is None and options.valid is not None:
        options = dataclasses.replace(options, probe_data=options.valid)
    if options.folder is not None:
        from reprkit.checkpoints.manifest import describe
        from reprkit.checkpoints.save_load import check_replaceable

        describe(model)  # fail now, not after hours
        check_replaceable(options.folder / MODEL)
    valid, evaluators = options.valid, options.evaluators
    steps = Loop(model, train, options)
    with unchanged_process(), steps.writer.keep_lock():
        for step in steps:
            for turn in model.objective.turns:
                losses = step.update(turn, closure=functools.partial(_compute_losses, step, turn))
            if valid is not None and options.evaluate_every and step.every(options.evaluate_every):
                with step.averaged():
                    step.log(losses, _evaluate(model, valid, train, evaluators, examples=0))
        results = {} if valid is None else _evaluate(model, valid, train, evaluators)
        if options.folder is not None:
            page = _describe(model, steps.data) if valid is None else results
            model.save(options.folder / MODEL)
            if collectives.is_main():
                from reprkit.reporting import report

                report(options.folder, page)
    return Run(options.folder, model, steps.writer.lines, results)


def _check_order(model: Any, data: Any, function: str) -> tuple[Model, Any]:
    """Return model and data, if they are what they are called.

    Raises:
        BuildError: the first is no model.
        DataError: the second is no data set and no reference to one.
    """
    if not hasattr(model, "factors"):
        raise BuildError(
            f"{function}(model, data): the first argument is a {type(model).__name__}, and must be a model from rk.build or rk.load"
        )
    is_data_set = hasattr(data, "signature") and hasattr(data, "order")
    if not is_data_set and not isinstance(data, Reference) and not is_source(data):
        raise DataError(
            f"{function}(model, data): the second argument is a {type(data).__name__}, and must be a data set: rk.dataset makes "
            "one from arrays, a DataFrame, a file or a folder"
        )
    return model, data


def _describe(model: Model, train: Any) -> Results:
    """Return results without numbers for the page of a run that evaluates nothing: parts, and pictures of training data."""
    from reprkit.data.streams import Stream
    from reprkit.reporting.describe_model import describe_model
    from reprkit.reporting.gallery import add_gallery

    results = Results()
    if isinstance(train, Stream):  # it has no first examples
        results.about = describe_model(model, train)
        return results
    add_gallery(results, model, train)
    for each in results.galleries.values():
        each.notes.append("The examples are of the training data: no other data was given.")
    return results


def _compute_losses(step: Step, turn: str) -> Losses:
    losses = step.model(step.batch, turn)
    step.backward(losses.total)
    return losses


def _evaluate(model: Model, valid: Any, train: Any, evaluators: Sequence[str], **options: Any) -> Any:
    from reprkit.evaluation import evaluate

    return evaluate(model, valid, *evaluators, fit_on=train, **options)
