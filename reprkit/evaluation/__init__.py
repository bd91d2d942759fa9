"""Measuring a trained model: ``evaluate``, its Results, and the evaluators; resolved at first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprkit.evaluation.baselines import baseline
    from reprkit.evaluation.encoding import encoded, session
    from reprkit.evaluation.gallery import Gallery
    from reprkit.evaluation.harness import evaluate
    from reprkit.evaluation.results import Results

# Lazily: an evaluator's module is reached through this package, and should not bring its neighbours along.
_HOMES = {
    "Gallery": "gallery",
    "Results": "results",
    "baseline": "baselines",
    "encoded": "encoding",
    "evaluate": "harness",
    "session": "encoding",
}

__all__ = ["Gallery", "Results", "baseline", "encoded", "evaluate", "session"]


def __getattr__(name: str) -> Any:
    """The public names, from their modules."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = made
    return made


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
