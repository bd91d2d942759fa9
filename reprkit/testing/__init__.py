"""Tools to test plugins: conformance classes to subclass, ``ranks`` to run several processes, pytest fixtures.

::

    from reprkit.testing import LatentConformance

    class TestFSQ(LatentConformance):
        part = "acme-latents/fsq(levels=(8, 5))"
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from reprkit.testing.corruptions import CorruptionConformance
    from reprkit.testing.datasets import DatasetConformance
    from reprkit.testing.decoders import DecoderConformance
    from reprkit.testing.encoders import EncoderConformance
    from reprkit.testing.evaluators import EvaluatorConformance
    from reprkit.testing.latents import LatentConformance
    from reprkit.testing.likelihoods import LikelihoodConformance
    from reprkit.testing.objectives import ObjectiveConformance
    from reprkit.testing.processes import ranks

__all__ = [
    "CorruptionConformance",
    "DatasetConformance",
    "DecoderConformance",
    "EncoderConformance",
    "EvaluatorConformance",
    "LatentConformance",
    "LikelihoodConformance",
    "ObjectiveConformance",
    "ranks",
]

__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "encoders": ["EncoderConformance"],
        "latents": ["LatentConformance"],
        "decoders": ["DecoderConformance"],
        "likelihoods": ["LikelihoodConformance"],
        "objectives": ["ObjectiveConformance"],
        "corruptions": ["CorruptionConformance"],
        "datasets": ["DatasetConformance"],
        "evaluators": ["EvaluatorConformance"],
        "processes": ["ranks"],
    },
)
