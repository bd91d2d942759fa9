"""Few labels: how accuracy grows with their number, for any evaluators that are fitted on labels."""

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
    """Other evaluators, fitted on parts of ``fit_on`` that grow: ``["knn"]["50"]["accuracy"]``, ``["all"]``.

    Each part has as many examples of each class as can be, and holds the smaller ones; numbers that reach
    the size of ``fit_on`` are left out.

    Args:
        labels: numbers of labelled examples; all of ``fit_on`` comes after them.
        measures: references of evaluators that are fitted on ``fit_on``.
        label: the label field that decides the parts.
        seed: of the choice.
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
        for each in measures:
            made = create("evaluator", each)
            require(isinstance(made, Evaluator), f"few-labels: {type(made).__name__} is not an evaluator")
            name = made.reference.name
            self.measures[str(made.reference) if name in self.measures else name] = made

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """What each evaluator gave, by the number of labels, and a chart of the accuracies.

        Raises:
            DataError: no ``fit_on``, or no such label field.
        """
        from reprkit.reporting.figures import Curves

        if fit_on is None:
            raise DataError("few-labels fits on labelled examples: give evaluate(..., fit_on=train)")
        found: dict[str, Any] = {name: {} for name in self.measures}
        fewer = [each for each in self.labels if each < len(fit_on)]
        sizes = [*fewer, len(fit_on)]
        for size, shown in zip(sizes, [*map(str, fewer), "all"], strict=True):
            chosen = (
                fit_on if shown == "all" else label_subset(fit_on, size, label=self.label, seed=self.seed)
            )
            for name, evaluator in self.measures.items():
                with evaluator.error_context():
                    measured = dict(evaluator(model, data, fit_on=chosen))
                measured.pop("figures", None)
                found[name][shown] = measured
        lines = {
            name: (sizes, [each["accuracy"] for each in parts.values()])
            for name, parts in found.items()
            if all("accuracy" in each for each in parts.values())
        }
        if lines:
            found["figures"] = {
                "labels": Curves(
                    title="Accuracy by the number of labels",
                    lines=lines,
                    xlabel="labelled examples",
                    ylabel="accuracy",
                    log=False,
                )
            }
        return found
