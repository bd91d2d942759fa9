"""RankMe: the effective rank of a representation, a measure of its quality that needs no labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from reprkit.evaluation.encoding import Pool, encoded
from reprkit.interfaces import Evaluator
from reprkit.utils.spectrum import rankme

if TYPE_CHECKING:
    from reprkit.data.base import Dataset
    from reprkit.models.model import Model


class RankMe(Evaluator):
    """Effective rank of ``model.represent`` of the data: ``rank``, from 1 to the smaller of ``n`` and ``dim``; no labels needed.

    Garrido et al. 2023 (arXiv 2210.02885), equation 1.  It is not centered, and is compared between runs of one architecture and
    one number of examples only.  The paper takes 25,600 examples.

    Args:
        pool: "mean" over tokens, or "flatten" them.
        factor: this factor's code only; None concatenates all factors'.
    """

    def __init__(self, *, pool: Pool = "mean", factor: str | None = None) -> None:
        super().__init__()
        self.options: dict[str, Any] = {"pool": pool, "factor": factor}

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return ``rank``, ``dim`` (of a representation) and ``n``.

        Raises:
            DataError: fewer than two examples, or a representation that is not finite.
        """
        x = encoded(model, data, **self.options).x
        return {"rank": rankme(torch.from_numpy(x)), "dim": x.shape[1], "n": len(x)}
