"""Policy gradient: sampled codes are rewarded by how much better they reconstruct than a baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import BuildError
from reprkit.interfaces import Objective, Term, require
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import Count
from reprkit.types import Batch, Codes
from reprkit.utils.modes import eval_mode

if TYPE_CHECKING:
    from reprkit.models.model import Model
    from reprkit.models.scoring import Scored


class Policy(Objective):
    """Reconstruction through a code without a gradient: REINFORCE (Williams 1992) with a baseline.

    The reward of a sampled code is log p(data | code), minus the baseline.  "others": the mean reward of the other samples of that
    example, unbiased and without a further pass (Kool et al. 2019; Mnih and Rezende 2016, arXiv 1602.06725).  "greedy": the reward
    of the code which evaluation would give (Rennie et al. 2017, arXiv 1612.00563).  The decoder learns from the sampled codes.
    In nats, ``reconstruction`` and ``policy`` together have the gradient of the expected reconstruction, unbiased, for a latent
    whose own gradient is off; with a straight-through latent both gradients are used.

    Any latent that provides "log_prob" works.  Losses: ``reconstruction``, nats per example, the mean over samples; ``policy``,
    -(reward - baseline) * log-probability of the code, for its gradient (its value has no meaning).  Metrics: ``advantage`` with
    "greedy", nats by which sampled codes are better than greedy ones; ``perplexity`` or ``bits_per_dim``.

    Args:
        samples: codes drawn for each example.
        baseline: "others", of at least two samples; "greedy"; or "none".
        factor: name of the factor whose code is sampled; None for the only factor.

    Raises:
        PartArgumentError: no such baseline, or "others" with one sample.
        BuildError: no such factor, or a latent without ``log_prob``.
    """

    needs = frozenset({"encoder", "decoder", "log_prob"})

    def __init__(
        self,
        *,
        samples: Count = 2,
        baseline: Literal["others", "greedy", "none"] = "others",
        factor: str | None = None,
    ) -> None:
        super().__init__()
        require(
            baseline != "others" or samples > 1,
            "objective policy: baseline='others' compares the samples of an example: use samples=2 or more, or baseline='greedy'",
        )
        self.samples, self.baseline, self.factor = samples, baseline, factor

    @property
    def _caller(self) -> str:
        return f"objective {(self.qualified or 'policy').rpartition('/')[2]}"

    def bind(self, model: Model) -> None:
        """Find the factor.

        Raises:
            BuildError: no such factor, or its latent has no ``log_prob``.
        """
        latent = model.latent(resolve_factor(model.factors, self.factor, self._caller))
        if "log_prob" not in latent.provides:
            raise BuildError(
                f"{self._caller} needs a latent that provides log_prob, and {latent.qualified or type(latent).__name__} "
                "does not: use text, gaussian, binary or one-hot, or objective reconstruction"
            )

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Compute the losses of one batch."""
        name = resolve_factor(model.factors, self.factor, self._caller)
        codes = model.encode(batch, draws=self.samples)
        log_prob, mask = codes[name].log_prob, codes[name].mask
        if log_prob is None:
            raise BuildError(f"the latent of factor {name!r} provides log_prob, and its code has none")
        scored = model.score(batch, codes, draws=self.samples)
        nats = self.nats(scored)
        advantage = self._advantage(model, name, batch, codes, -nats.detach())
        if self.baseline == "greedy":
            model.record(advantage=advantage.mean())
        code_log_prob = log_prob.sum(1) if mask is None else log_prob.masked_fill(~mask, 0.0).sum(1)
        model.record(**scored.rates)
        return {
            "reconstruction": (nats.sum(), len(nats)),
            "policy": (-(advantage * code_log_prob).sum(), len(nats)),
        }

    def nats(self, scored: Scored) -> Float[Tensor, " s"]:
        """Return what a code is rewarded for, as nats to be small, of each example; a subclass may weigh its parts."""
        return scored.per_example

    def _advantage(
        self, model: Model, name: str, batch: Batch, codes: Codes, reward: Float[Tensor, " s"]
    ) -> Float[Tensor, " s"]:
        """Return the reward of each sample minus its baseline."""
        if self.baseline == "others":
            return reward - mean_of_others(reward, self.samples)
        return reward + self._greedy(model, name, batch, codes) if self.baseline == "greedy" else reward

    @torch.no_grad()
    def _greedy(self, model: Model, name: str, batch: Batch, codes: Codes) -> Float[Tensor, " s"]:
        """Return the nats of each sample's example given the code of evaluation mode, with the sampled codes of other factors."""
        factor = model.factors[name]
        alone = len(codes) == 1
        draws = 1 if alone else self.samples
        condition = None if factor.condition is None else codes[factor.condition]
        with eval_mode(factor):
            code = factor(batch, condition=condition, draws=draws)
        nats = model.score(batch, codes | {name: code}, draws=draws).per_example
        return nats.repeat_interleave(self.samples, 0) if alone else nats


def mean_of_others(reward: Float[Tensor, " s"], samples: int) -> Float[Tensor, " s"]:
    """Return of each sample the mean reward of the other ``samples - 1`` of its example, whose samples stand in a row.

    The leave-one-out baseline of Kool, van Hoof and Welling 2019, "Buy 4 REINFORCE samples, get a baseline for free!".
    """
    by_example = reward.unflatten(0, (-1, samples))
    return ((by_example.sum(1, keepdim=True) - by_example) / (samples - 1)).flatten()
