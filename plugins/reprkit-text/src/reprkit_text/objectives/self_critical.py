"""Self-critical training: sampled codes are rewarded by how much better they reconstruct than the greedy code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from reprkit import Objective
from reprkit.errors import BuildError
from reprkit.interfaces import Term
from reprkit.models.factor import resolve_factor
from reprkit.types import Batch
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit import Codes, Model


class SelfCritical(Objective):
    """Reconstruction through a code without a gradient: policy gradient with the greedy code as baseline.

    The reward of a sampled code is log p(document | code) minus that of the code which evaluation would give (Rennie
    et al. 2017, arXiv 1612.00563; Wang and Lee 2018, arXiv 1810.02851).  The decoder learns from the sampled
    code.  In nats, ``reconstruction`` and ``policy`` together have the gradient of the expected reconstruction, unbiased, for a
    latent whose own gradient is off (``text(gradient='policy')``); with a straight-through latent both gradients are used.

    Any latent with a ``log_prob`` works.  Losses: ``reconstruction``, nats per example; ``policy``, (nats - nats of the greedy
    code) * log-probability of the code, for its gradient (its value has no meaning).  Metrics: ``advantage``, nats by which
    sampled codes are better than greedy ones, and ``perplexity`` or ``bits_per_dim``.

    Args:
        baseline: "greedy", or "none".
        factor: name of the factor whose code is sampled; None for the only factor.

    Raises:
        PartArgumentError: no such baseline.
        BuildError: no such factor, or a latent without ``log_prob``.
    """

    needs = frozenset({"encoder", "decoder"})

    def __init__(self, *, baseline: Literal["greedy", "none"] = "greedy", factor: str | None = None) -> None:
        super().__init__()
        self.baseline, self.factor = baseline, factor

    def bind(self, model: Model) -> None:
        """Find the factor.

        Raises:
            BuildError: no such factor, or its latent has no ``log_prob``.
        """
        name = resolve_factor(model.factors, self.factor, "objective self-critical")
        latent = model.latent(name)
        if "log_prob" not in latent.provides:
            raise BuildError(
                f"objective self-critical needs a latent that provides log_prob, and {latent.qualified or type(latent).__name__} "
                "does not: use text, gaussian, binary or one-hot, or objective reconstruction"
            )

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Compute the losses of one batch."""
        name = resolve_factor(model.factors, self.factor, "objective self-critical")
        codes = model.encode(batch)
        log_prob, mask = codes[name].log_prob, codes[name].mask
        if log_prob is None:
            raise BuildError(f"the latent of factor {name!r} provides log_prob, and its code has none")
        scored = model.score(batch, codes)
        nats = scored.per_example
        reward = -nats.detach()
        if self.baseline == "greedy":
            reward = reward + self._greedy(model, name, batch, codes)
            model.record(advantage=reward.mean())
        code_log_prob = log_prob.sum(1) if mask is None else log_prob.masked_fill(~mask, 0.0).sum(1)
        model.record(**scored.rates)
        return {
            "reconstruction": (nats.sum(), len(nats)),
            "policy": (-(reward * code_log_prob).sum(), len(nats)),
        }

    @torch.no_grad()
    def _greedy(self, model: Model, name: str, batch: Batch, codes: Codes) -> Tensor:
        """Return the nats of each document given the code of evaluation mode (b)."""
        factor = model.factors[name]
        condition = None if factor.condition is None else codes[factor.condition]
        with eval_mode(factor):
            code = factor.code(factor.features(batch, condition=condition))
        return model.score(batch, codes | {name: code}).per_example
