"""Online probes: evaluators that run while a model trains, without a trace in its weights, statistics or random states."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.errors import DataError
from reprkit.models.model import Model
from reprkit.training.forward_state import ForwardState, random_states, set_random_states
from reprkit.utils.atomic_files import explain_os_error
from reprkit.utils.process_state import unchanged_process

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.interfaces import Evaluator
    from reprkit.runs.results import Results

FITTED, MEASURED = 2_000, 1_000  # the most examples that probes are fitted on, and measured on
POINTS = 10  # of a run, where none were asked for


class Probes:
    """Evaluators on a fixed small part of the data.

    Args:
        references: of the evaluators.
        train: the data set that is trained on.
        held_out: the data set to measure on; None measures on examples of ``train`` that no probe is fitted on.
        every: steps between two measurements.
        seed: of the choice of examples, and of the evaluators' draws.

    Attributes:
        fit_on: the examples that probes are fitted on.
        data: the examples that they are measured on.

    Raises:
        UnknownPartError, PartArgumentError: there is no such evaluator, or not with these arguments.
        DataError: too few examples for two parts.
    """

    def __init__(
        self, references: Sequence[str], train: Any, held_out: Any, *, every: int, seed: int
    ) -> None:
        from reprkit.data.resolve import dataset
        from reprkit.registry.create import create

        self.evaluators: list[Evaluator] = [create("evaluator", reference) for reference in references]
        self.every, self.seed = every, seed
        self.fit_on: Dataset
        self.data: Dataset
        if held_out is None:
            chosen = _choose(train, FITTED + MEASURED, seed)
            if len(chosen) < 2:
                raise DataError(
                    f"probes= fits on one part of {train.name} and measures on another: pass probe_data="
                )
            measured = min(MEASURED, -(-len(chosen) // 3))
            self.fit_on = chosen.subset(range(measured, len(chosen)), part="fitted by probes")
            self.data = chosen.subset(range(measured), part="measured by probes")
        else:
            self.fit_on, self.data = _choose(train, FITTED, seed), _choose(dataset(held_out), MEASURED, seed)

    def measure(self, model: Model, device: torch.device) -> Results:
        """Return the evaluators' metrics and figures; the model, its statistics and all random states are as they were before."""
        from reprkit.evaluation import evaluate

        statistics, random = ForwardState(model), random_states(model, device)
        try:
            with unchanged_process():
                results = evaluate(
                    model,
                    self.data,
                    *self.evaluators,
                    fit_on=self.fit_on,
                    examples=0,
                    seed=self.seed,
                    progress=False,
                )
        finally:
            statistics.restore()
            set_random_states(model, random, device)
        return results


def keep_figures(results: Results, out: Path) -> None:
    """Write the figures of a measurement into a run's folder, where every page of the run shows them; a full disk is a warning."""
    from reprkit.reporting.writer import write_probe_figures

    try:
        write_probe_figures(out, results)
    except OSError as error:
        warnings.warn(
            f"the figures of the probes were not written: {explain_os_error(error)}",
            stacklevel=2,
        )


def _choose(data: Any, count: int, seed: int) -> Dataset:
    """Return at most ``count`` examples, drawn by ``seed``; of a stream, the first ones."""
    from reprkit.data.streams import Stream

    if isinstance(data, Stream):
        return data.take(count)
    order: Tensor = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    found: Dataset = data.subset(order[:count], part="probes")
    return found
