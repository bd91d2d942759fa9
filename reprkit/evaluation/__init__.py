"""Evaluation of a trained model: ``evaluate``, its ``Results``, and the evaluators; imported lazily."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.utils.lazy import attach

if TYPE_CHECKING:
    from reprkit.evaluation.activations import activations
    from reprkit.evaluation.anomaly import anomaly_scores
    from reprkit.evaluation.baselines import baseline
    from reprkit.evaluation.contributions import Contributions, anomaly_contributions
    from reprkit.evaluation.encoding import encoded, session
    from reprkit.evaluation.harness import evaluate
    from reprkit.runs.results import Gallery, Results

__all__ = [
    "Contributions",
    "Gallery",
    "Results",
    "activations",
    "anomaly_contributions",
    "anomaly_scores",
    "baseline",
    "encoded",
    "evaluate",
    "session",
]

# Lazy imports: importing one evaluator's module through this package must not import the others.
__getattr__, __dir__ = attach(
    __name__,
    submod_attrs={
        "activations": ["activations"],
        "anomaly": ["anomaly_scores"],
        "baselines": ["baseline"],
        "contributions": ["Contributions", "anomaly_contributions"],
        "encoding": ["encoded", "session"],
        "harness": ["evaluate"],
    },
    elsewhere={"Gallery": "reprkit.runs.results", "Results": "reprkit.runs.results"},
)
