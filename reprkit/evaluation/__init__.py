"""Measuring a trained model: ``evaluate``, its Results, and the evaluators; resolved at first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.lazy import lazily

if TYPE_CHECKING:
    from reprkit.evaluation.baselines import baseline
    from reprkit.evaluation.encoding import encoded, session
    from reprkit.evaluation.harness import evaluate
    from reprkit.evaluation.results import Gallery, Results

# Lazily: an evaluator's module is reached through this package, and should not bring its neighbours along.
_HOMES = {
    "Gallery": "results",
    "Results": "results",
    "baseline": "baselines",
    "encoded": "encoding",
    "evaluate": "harness",
    "session": "encoding",
}

__all__ = ["Gallery", "Results", "baseline", "encoded", "evaluate", "session"]

__getattr__, __dir__ = lazily(__name__, _HOMES)
