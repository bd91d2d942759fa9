"""The former name of the core's adversary, with the settings of voice conversion as defaults."""

from __future__ import annotations

from typing import Literal

from reprkit.objectives.adversary import Adversary
from reprkit.registry.constraints import Depth, Width


class SpeakerAdversary(Adversary):
    """Objective "adversary" of the core on factor "content" and label "speaker" (Chou et al. 2018, arXiv 1804.02812).

    Args:
        goal: "wrong" or "uniform", see ``adversary``.
        label: the label field of the speaker.
        factor: the factor without speaker information; the only one if None.
        width: channels of the critic.
        depth: convolutions of the critic.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: no such label field, or no such factor.
    """

    def __init__(
        self,
        *,
        goal: Literal["wrong", "uniform"] = "uniform",
        label: str = "speaker",
        factor: str | None = "content",
        width: Width = 128,
        depth: Depth = 3,
    ) -> None:
        super().__init__(goal=goal, label=label, factor=factor, width=width, depth=depth)
