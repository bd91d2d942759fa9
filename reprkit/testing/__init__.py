"""What a plugin's author needs: conformance classes to subclass, ``ranks`` to start processes, fixtures.

::

    from reprkit.testing import LatentConformance

    class TestFSQ(LatentConformance):
        part = "acme-latents/fsq(levels=(8, 5))"
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reprkit.testing.corruptions import CorruptionConformance
    from reprkit.testing.datasets import DatasetConformance
    from reprkit.testing.decoders import DecoderConformance
    from reprkit.testing.encoders import EncoderConformance
    from reprkit.testing.evaluators import EvaluatorConformance
    from reprkit.testing.latents import LatentConformance
    from reprkit.testing.objectives import ObjectiveConformance
    from reprkit.testing.ranks import ranks

_WHERE = {
    "EncoderConformance": "encoders",
    "LatentConformance": "latents",
    "DecoderConformance": "decoders",
    "ObjectiveConformance": "objectives",
    "CorruptionConformance": "corruptions",
    "DatasetConformance": "datasets",
    "EvaluatorConformance": "evaluators",
    "ranks": "ranks",
}

__all__ = [
    "CorruptionConformance",
    "DatasetConformance",
    "DecoderConformance",
    "EncoderConformance",
    "EvaluatorConformance",
    "LatentConformance",
    "ObjectiveConformance",
    "ranks",
]


def __getattr__(name: str) -> Any:
    """Load a class when it is asked for."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
