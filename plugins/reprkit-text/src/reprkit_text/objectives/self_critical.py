"""The former name of the core's objective "policy" with one sample and the greedy code as baseline."""

from __future__ import annotations

from typing import Literal

from reprkit.objectives.policy import Policy


class SelfCritical(Policy):
    """Objective "policy" of the core, of one sample: self-critical training (Rennie et al. 2017, arXiv 1612.00563).

    Wang and Lee 2018 (arXiv 1810.02851) use it for summaries.

    Args:
        baseline: "greedy", or "none".
        factor: name of the factor whose code is sampled; None for the only factor.

    Raises:
        PartArgumentError: no such baseline.
        BuildError: no such factor, or a latent without ``log_prob``.
    """

    def __init__(self, *, baseline: Literal["greedy", "none"] = "greedy", factor: str | None = None) -> None:
        super().__init__(samples=1, baseline=baseline, factor=factor)
