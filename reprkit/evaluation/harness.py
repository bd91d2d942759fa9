"""``rk.evaluate``: evaluators over a model and a data set, deterministic and without a trace."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from reprkit.errors import BuildError, PartArgumentError
from reprkit.evaluation.baselines import baseline
from reprkit.evaluation.describe import describe_model
from reprkit.evaluation.encoding import Session, use_session
from reprkit.evaluation.gallery import gallery
from reprkit.interfaces import Evaluator
from reprkit.registry.create import create
from reprkit.runs.results import Results
from reprkit.utils.modes import evaluating

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


def evaluate(
    model: Model | str,
    data: Dataset | str,
    *evaluators: str | Evaluator,
    fit_on: Dataset | str | None = None,
    batch: int = 256,
    examples: int = 16,
    seed: int = 0,
    progress: bool | None = None,
) -> Results:
    """Measure a model: ``evaluate(model, test, "reconstruction", "knn", fit_on=train)["knn"]["accuracy"]``.

    Runs without gradients and in evaluation mode, and leaves the model's mode and the global random state
    as they were.  Under several ranks every process measures the whole data set and gets equal results;
    nothing is divided or exchanged, so it needs no barrier and works on sharded models.

    Args:
        model: a model; or the reference of a baseline, ``"pca(dim=16)"`` or ``"raw"``, fitted on ``fit_on``.
        data: what to measure on.
        evaluators: references or instances; a result is named after its evaluator, the second of a name
            after its reference.
        fit_on: what probes are fitted on; never measured on.
        batch: examples encoded at a time.
        examples: how many are kept with their outputs for the report's pictures; 0 for none.
        seed: of everything random in the evaluators.
        progress: None draws a bar on a terminal when it takes over a second, and elsewhere writes a line now and then;
            True and False decide.

    Raises:
        DataError: no examples, no labels where an evaluator needs them, or values that are not finite.
        UnknownPartError, PartArgumentError: an evaluator that does not exist, or a wrong argument.
    """
    if batch < 1 or examples < 0:
        raise PartArgumentError(
            f"evaluate takes batch of at least 1 and examples of at least 0, not {batch}, {examples}"
        )
    data, fit_on = _dataset(data), None if fit_on is None else _dataset(fit_on)
    made = _evaluators(evaluators)
    if isinstance(model, str):
        model = baseline(model, fit_on)
    model = _unwrap(model)
    started = time.monotonic()
    results = Results()
    with torch.no_grad(), _isolate(model, seed) as reseed, use_session(Session(batch, progress)) as here:
        for name, evaluator in made.items():
            here.evaluator = name
            reseed()  # so that what one draws does not depend on who came before
            with evaluator.error_context():
                found = dict(evaluator(model, data, fit_on=fit_on))
            figures = found.pop("figures", None)
            results[name] = found
            if figures:
                results.figures[name] = dict(figures)
        here.evaluator = ""
        reseed()
        results.gallery = gallery(model, data, examples, seed=seed) if examples else None
        results.about = {**describe_model(model, data), "seconds": round(time.monotonic() - started, 3)}
    return results


def add_gallery(results: Results, model: Model, data: Dataset, examples: int = 16, seed: int = 0) -> Results:
    """Give results the pictures and facts of a model that they do not carry, such as ones read back."""
    model = _unwrap(model)
    with torch.no_grad(), _isolate(model, seed):
        results.gallery = results.gallery or gallery(model, data, examples, seed=seed)
        results.about = {**describe_model(model, data), **results.about}
    return results


def _dataset(data: Any) -> Dataset:
    from reprkit.data import dataset

    if isinstance(data, str):
        return dataset(data)
    if not hasattr(data, "signature"):
        raise BuildError(f"evaluate takes a data set, not {type(data).__name__}; see rk.dataset")
    return data


def _evaluators(asked: tuple[Any, ...]) -> dict[str, Evaluator]:
    """Instances by the name of their results."""
    if not asked:
        from reprkit.registry.registry import default_registry

        known = ", ".join(sorted(spec.name for spec in default_registry().specs("evaluator")))
        raise PartArgumentError(
            f"evaluate needs at least one evaluator, such as 'reconstruction'\n  known: {known}"
        )
    made: dict[str, Evaluator] = {}
    for each in asked:
        evaluator = create("evaluator", each)
        if not isinstance(evaluator, Evaluator):
            raise BuildError(f"{type(evaluator).__name__} is not an Evaluator")
        name = evaluator.reference.name
        if name in made:
            name = str(each if isinstance(each, str) else evaluator.reference)
        if name in made:
            raise PartArgumentError(f"evaluator {name} is given twice")
        made[name] = evaluator
    return made


def _unwrap(model: Any) -> Model:
    """The model inside of DistributedDataParallel or torch.compile."""
    while not hasattr(model, "represent"):
        inner = getattr(model, "module", None) or getattr(model, "_orig_mod", None)
        if inner is None:
            raise BuildError(
                f"evaluate takes a model made by rk.build or rk.load, not {type(model).__name__}"
            )
        model = inner
    return model


@contextmanager
def _isolate(model: nn.Module, seed: int) -> Iterator[Any]:
    """Evaluation mode and seeded generators inside; modes and generators are put back afterwards."""
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    devices = [device] if device.type == "cuda" else []
    python, numpy = random.getstate(), np.random.get_state()

    def reseed() -> None:
        torch.default_generator.manual_seed(seed)
        for each in devices:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)

    with torch.random.fork_rng(devices=devices), evaluating(model):
        try:
            yield reseed
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
