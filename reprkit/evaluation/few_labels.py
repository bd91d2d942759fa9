"""Few labels: accuracy as a function of the number of labels, for evaluators that are fitted on labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import MinLen, Predicate

from reprkit.errors import DataError
from reprkit.evaluation.label_subset import label_subset
from reprkit.interfaces import Evaluator, require
from reprkit.registry.constraints import Count, Seed, strictly_ascending
from reprkit.registry.create import create

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


class FewLabels(Evaluator):
    """Run other evaluators fitted on growing subsets of ``fit_on``: ``["knn"]["50"]["accuracy"]``, ``["all"]``.

    The subsets are nested and have equally many examples of each class as far as possible; numbers that reach
    the size of ``fit_on`` are omitted.

    Args:
        labels: numbers of labeled examples; all of ``fit_on`` is always the last.
        measures: references of evaluators that are fitted on ``fit_on``.
        label: the label field by which subsets are balanced.
        seed: of the subsets.
    """

    def __init__(
        self,
        labels: Annotated[tuple[Count, ...], MinLen(1), Predicate(strictly_ascending)] = (50, 200, 1000),
        *,
        measures: Annotated[tuple[str | Evaluator, ...], MinLen(1)] = ("knn", "linear-probe", "finetune"),
        label: str = "label",
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.labels, self.label, self.seed = labels, label, seed
        self.measures: dict[str, Evaluator] = {}
        for measure in measures:
            evaluator = create("evaluator", measure)
            require(
                isinstance(evaluator, Evaluator),
                f"few-labels: {type(evaluator).__name__} is not an evaluator",
            )
            name = evaluator.reference.name
            self.measures[str(evaluator.reference) if name in self.measures else name] = evaluator

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return each evaluator's results by the number of labels, and a chart of the accuracies.

        Raises:
            DataError: no ``fit_on``, or the label field is missing.
        """
        from reprkit.reporting.figures import Curves

        if fit_on is None:
            raise DataError("few-labels is fitted on labeled examples: pass evaluate(..., fit_on=train)")
        results: dict[str, Any] = {name: {} for name in self.measures}
        fewer = [count for count in self.labels if count < len(fit_on)]
        sizes = [*fewer, len(fit_on)]
        for size, key in zip(sizes, [*map(str, fewer), "all"], strict=True):
            subset = fit_on if key == "all" else label_subset(fit_on, size, label=self.label, seed=self.seed)
            for name, evaluator in self.measures.items():
                with evaluator.error_context():
                    measured = dict(evaluator(model, data, fit_on=subset))
                measured.pop("figures", None)
                results[name][key] = measured
        lines = {
            name: (sizes, [result["accuracy"] for result in parts.values()])
            for name, parts in results.items()
            if all("accuracy" in result for result in parts.values())
        }
        if lines:
            results["figures"] = {
                "labels": Curves(
                    title="Accuracy by the number of labels",
                    lines=lines,
                    xlabel="labeled examples",
                    ylabel="accuracy",
                    log=False,
                )
            }
        return results
