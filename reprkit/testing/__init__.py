"""What a plugin's author needs: conformance classes to subclass, ``ranks`` to start processes, fixtures.

::

    from reprkit.testing import LatentConformance

    class TestFSQ(LatentConformance):
        part = "acme-latents/fsq(levels=(8, 5))"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.lazy import lazily

if TYPE_CHECKING:
    from reprkit.testing.corruptions import CorruptionConformance
    from reprkit.testing.datasets import DatasetConformance
    from reprkit.testing.decoders import DecoderConformance
    from reprkit.testing.encoders import EncoderConformance
    from reprkit.testing.evaluators import EvaluatorConformance
    from reprkit.testing.latents import LatentConformance
    from reprkit.testing.objectives import ObjectiveConformance
    from reprkit.testing.processes import ranks

_WHERE = {
    "EncoderConformance": "encoders",
    "LatentConformance": "latents",
    "DecoderConformance": "decoders",
    "ObjectiveConformance": "objectives",
    "CorruptionConformance": "corruptions",
    "DatasetConformance": "datasets",
    "EvaluatorConformance": "evaluators",
    "ranks": "processes",
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

__getattr__, __dir__ = lazily(__name__, _WHERE)
