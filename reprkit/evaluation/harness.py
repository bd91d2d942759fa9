"""``rk.evaluate``: run evaluators on a model and a data set, deterministically and without side effects."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from reprkit.data.compatibility import match_classes, match_model, require_same_fields
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.evaluation.baselines import baseline
from reprkit.evaluation.encoding import Session, use_session
from reprkit.interfaces import Evaluator
from reprkit.models.isolation import isolate, unwrap
from reprkit.models.part_table import latent_names
from reprkit.registry.create import create
from reprkit.registry.references import Reference
from reprkit.reporting.describe_model import describe_model
from reprkit.reporting.gallery import galleries
from reprkit.runs.results import Results
from reprkit.utils.collectives import is_main

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
    leave_out: bool = False,
) -> Results:
    """Measure a model: ``evaluate(model, test, "reconstruction", "knn", fit_on=train)["knn"]["accuracy"]``.

    Runs without gradients and in evaluation mode, and restores the model's mode and the global random state.
    With several ranks every process evaluates the whole data set and gets equal results; there is no
    communication, so no barrier is needed, and it works on sharded models.

    Args:
        model: a model; or the reference of a baseline, ``"pca(dim=16)"`` or ``"raw"``, fitted on ``fit_on``.
        data: the data set to evaluate on.
        evaluators: references or instances; results are named after their evaluator; where several have one
            name, also after the arguments in which they differ, ``knn(k=1)``, or their distribution.
        fit_on: the data set that probes are fitted on; never evaluated on.  Where both name their classes (``facts["classes"]``),
            the labels of ``data`` are matched by name.
        batch: examples per batch.
        examples: how many examples and outputs to keep for the report's gallery; 0 for none.
        seed: of all random draws of the evaluators.
        progress: show a progress bar; None shows it on a terminal if it takes over a second, and elsewhere prints
            a line now and then.
        leave_out: leave out evaluators that model or data do not suit (no labels, no decoder, a continuous code), with a line on
            standard error each, instead of raising; ``results.left_out`` has the reasons.

    Raises:
        DataError: no examples, missing labels that an evaluator needs, values that are not finite, a field of another range or
            with other columns than the model learned, or classes of ``data`` whose names ``fit_on`` does not have.
        UnknownPartError, PartArgumentError: an unknown evaluator, or an invalid argument.
    """
    if batch < 1 or examples < 0:
        raise PartArgumentError(
            f"evaluate takes batch of at least 1 and examples of at least 0, not {batch}, {examples}"
        )
    data, fit_on = _dataset(data), None if fit_on is None else _dataset(fit_on)
    instances = _evaluators(evaluators)
    subject = model if isinstance(model, str) else ""
    if isinstance(model, str):
        model = baseline(model, fit_on)
    model = unwrap(model)
    subject = subject or latent_names(model)
    for each in filter(None, (data, fit_on)):
        require_same_fields(each, model.signature)
    data = match_model(data, model.signature, model.data_fields)
    if fit_on is not None:
        fit_on = match_model(fit_on, model.signature, model.data_fields)
        data = match_classes(data, fit_on)
    started = time.monotonic()
    results = Results()
    with (
        torch.no_grad(),
        isolate(model, seed) as reseed,
        use_session(Session(batch, progress, subject=subject)) as current,
    ):
        for name, evaluator in instances.items():
            current.evaluator = name
            reseed()  # so that an evaluator's draws do not depend on earlier ones
            try:
                with evaluator.error_context():
                    result = dict(evaluator(model, data, fit_on=fit_on))
            except (BuildError, DataError) as error:
                if not leave_out:
                    raise
                results.left_out[name] = str(error).splitlines()[0]
                if is_main():
                    print(f"{name} is left out: {results.left_out[name]}", file=sys.stderr)
                continue
            figures = result.pop("figures", None)
            results[name] = result
            if figures:
                results.figures[name] = dict(figures)
        if results.left_out and not results:
            reasons = "".join(f"\n  {name}: {reason}" for name, reason in results.left_out.items())
            raise DataError(f"none of the evaluators suits this model and data{reasons}")
        current.evaluator = ""
        reseed()
        results.galleries = galleries(model, data, examples, seed=seed) if examples else {}
        results.about = {**describe_model(model, data), "seconds": round(time.monotonic() - started, 3)}
    return results


def _dataset(data: Any) -> Dataset:
    from reprkit.data.resolve import dataset, is_source

    if not hasattr(data, "signature") and is_source(data):
        return dataset(data)
    if not hasattr(data, "signature"):
        raise BuildError(f"evaluate takes a data set, not {type(data).__name__}; create one by rk.dataset")
    return data


def _evaluators(references: tuple[Any, ...]) -> dict[str, Evaluator]:
    """Create the evaluators, by the name of their results."""
    if not references:
        from reprkit.registry.registry import default_registry

        known = ", ".join(sorted(spec.name for spec in default_registry().specs("evaluator")))
        raise PartArgumentError(
            f"evaluate needs at least one evaluator, such as 'reconstruction'\n  known: {known}"
        )
    evaluators = [create("evaluator", reference) for reference in references]
    for evaluator in evaluators:
        if not isinstance(evaluator, Evaluator):
            raise BuildError(f"{type(evaluator).__name__} is not an Evaluator")
    instances: dict[str, Evaluator] = {}
    for evaluator, name in zip(
        evaluators, distinct_names([each.reference for each in evaluators]), strict=True
    ):
        if name in instances:
            raise PartArgumentError(f"evaluator {name} is passed twice")
        instances[name] = evaluator
    return instances


def distinct_names(references: Sequence[Reference]) -> list[str]:
    """Return a name for each reference: its own, and where several have it, also what tells them apart.

    That is the arguments that are not the same in all of them, and the distribution where that is not enough.
    """
    names = []
    for reference in references:
        same = [each for each in references if each.name == reference.name]
        shared = {
            key
            for key, value in reference.arguments.items()
            if all(key in each.arguments and each.arguments[key] == value for each in same)
        }
        own = {key: value for key, value in reference.arguments.items() if key not in shared}
        names.append(str(Reference(reference.name, own if len(same) > 1 else {}, None)))
    return [
        f"{reference.distribution}/{name}" if reference.distribution and names.count(name) > 1 else name
        for reference, name in zip(references, names, strict=True)
    ]
