"""Judges of generated pictures: classifiers of their attributes, trained on real pictures; and a paired test of two generators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

import reprkit as rk
from reprkit.errors import DataError
from reprkit.registry.constraints import Count

if TYPE_CHECKING:
    from reprkit import Dataset, Model


class AttributeJudges:
    """One encoder and a linear classifier of each label, trained together; they judge, and no model is trained on them.

    Args:
        data: real pictures with labels, other ones than those that a judged model was trained on.
        labels: the label fields, such as ("color_1", "shape_1").
        encoder: of pictures.
        latent: of pictures.
        steps: optimizer steps of training.
        batch: pictures a step.
        lr: learning rate.
        seed: of weights and order.

    Raises:
        DataError: no labels, or fields that the data does not have.
    """

    def __init__(
        self,
        data: Dataset,
        labels: Sequence[str],
        *,
        encoder: str = "conv(width=32, depth=2)",
        latent: str = "continuous(dim=64)",
        steps: int = 500,
        batch: int = 128,
        lr: float = 3e-3,
        seed: int = 0,
    ) -> None:
        known = data.signature.label_fields()
        if not labels or not set(labels) <= set(known):
            raise DataError(f"judges of {', '.join(labels) or 'no labels'}: the data has {', '.join(known)}")
        self.labels = tuple(labels)
        objective = " + ".join(f"classify(label={label!r})" for label in labels)
        self.model: Model = rk.build(
            data=data, encoder=encoder, latent=latent, objective=objective, seed=seed
        )
        options: dict[str, Any] = {"warmup": steps // 20, "schedule": "cosine", "clip": 1.0, "log_every": 0}
        rk.fit(self.model, data, steps=steps, batch=batch, lr=lr, seed=seed, **options).model.eval()

    @torch.no_grad()
    def judge(self, pictures: Float[Tensor, "n h w c"], *, batch: Count = 256) -> Int[Tensor, "n k"]:
        """Return the likeliest class of each label, in the order of ``labels``."""
        members: Any = self.model.objective.members  # of objective classify, which has ``logits``
        found = []
        for part in pictures.split(batch):
            view = self.model.to_device({"x": part})
            found.append(torch.stack([each.logits(self.model, view).argmax(-1) for each in members], 1).cpu())
        return torch.cat(found)

    def right(self, pictures: Float[Tensor, "n h w c"], data: Dataset) -> Bool[Tensor, "n k"]:
        """Return which labels of the examples of ``data`` the judges see in ``pictures``, one an example, in its order."""
        if len(pictures) != len(data):
            raise DataError(f"{len(pictures)} pictures for {len(data)} examples: give one an example")
        truth = torch.stack([data.label_values(label) for label in self.labels], 1)
        return self.judge(pictures) == truth

    def shares(self, right: Bool[Tensor, "n k"]) -> dict[str, float]:
        """Return the share of pictures with each label right, and with ``all`` of them."""
        each = dict(zip(self.labels, right.float().mean(0).tolist(), strict=True))
        return {"all": float(right.all(1).float().mean()), **each}


def mcnemar(one: Bool[Tensor, " n"], other: Bool[Tensor, " n"]) -> dict[str, float]:
    """Return McNemar's exact test of paired successes (McNemar 1947, Psychometrika 12(2)), two-sided.

    ``won``: pairs in which only ``one`` succeeds; ``lost``: only ``other``; ``p``: probability of a difference as large in a fair
    draw of these pairs.
    """
    from scipy.stats import binomtest

    won, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return {
        "won": won,
        "lost": lost,
        "p": float(binomtest(won, won + lost).pvalue) if won + lost else 1.0,
    }
