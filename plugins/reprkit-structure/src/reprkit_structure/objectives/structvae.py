"""Semi-supervised training of texts and trees: trees are written for texts that have none, and rewarded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import Codes, Objective
from reprkit.interfaces import Term, require
from reprkit.objectives.policy import mean_of_others
from reprkit.registry.constraints import Count, NonNegative
from reprkit.types import Batch
from reprkit_structure.objectives.parse import small_model, supervised_terms, writer_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from reprkit import Model, Signature


class StructVAE(Objective):
    """Texts without trees as a variational autoencoder whose code is a tree (Yin et al. 2018, arXiv 1806.07832).

    **A batch with field ``tree``** is labelled: its losses are those of objective ``parse``, and ``reconstruction``, -log p(x | z)
    of the data's trees (eq. 2).

    **A batch without it** has texts alone.  A tree z, drawn by the latent for a text x, has the reward of the paper's eq. 5::

        log p(x | z) - kl * (log q(z | x) - log p(z))

    The latent learns by REINFORCE: loss ``policy`` is -(reward - baseline) * log q(z | x), for its gradient (its value has no
    meaning).  The decoder learns from the drawn trees: loss ``reconstruction``, nats an example, the mean over samples.  The prior
    is fixed here.  Both have weight ``unlabelled``.  Baselines: "learned", the paper's a * log p(x) + c, where the two numbers are
    learned (loss ``baseline``, the squared error) and log p(x) is that of a language model of texts, the decoder without a code
    (loss ``language``); "others", the mean reward of the other samples of the text, unbiased without learning.

    A step takes one of each, and one update::

        for step in rk.loop(model, texts, extra={"labelled": few}):
            step.backward(step.model(step.extra["labelled"]).total)
            step.backward(step.model({"x": step.batch["x"], "x_mask": step.batch["x_mask"]}).total)
            step.update()

    Metrics: ``reward``, nats; ``advantage``, the standard deviation of reward minus baseline, nats.

    Args:
        tree: the field with derivations.
        samples: trees drawn for each text.
        baseline: see above; "others" needs two samples or more.
        kl: weight of the KL in the reward (the paper's 0.1).
        unlabelled: weight of the losses of texts without trees.
        floor: lowest reward minus baseline, nats, at most 0; None for no bound.
        factor: name of the factor whose latent writes; None for the only factor.

    Raises:
        PartArgumentError: "others" with one sample.
        BuildError: no such factor or field, or a latent that writes no derivations.
    """

    needs = frozenset({"encoder", "decoder", "causal", "log_prob"})

    def __init__(
        self,
        *,
        tree: str = "tree",
        samples: Count = 4,
        baseline: Literal["learned", "others"] = "learned",
        kl: NonNegative = 0.1,
        unlabelled: NonNegative = 0.1,
        floor: Annotated[float, Ge(-1e6), Le(0)] | None = None,
        factor: str | None = None,
    ) -> None:
        super().__init__()
        require(
            baseline != "others" or samples > 1,
            "objective structvae: baseline='others' compares the samples of a text: use samples=2 or more",
        )
        self.tree, self.samples, self.baseline, self.kl = tree, samples, baseline, kl
        self.unlabelled, self.floor, self.factor = unlabelled, floor, factor
        # Of the paper's baseline: slope and offset.
        self.line = nn.Parameter(torch.tensor([1.0, 0.0])) if baseline == "learned" else None

    def bind(self, model: Model) -> None:
        """Find the latent and the field."""
        writer_of(model, self.factor, "structvae")
        if model.signature is not None:
            model.signature[self.tree]  # raises and names the known fields

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Compute the losses of one batch: of texts with trees, or of texts alone."""
        if self.tree in batch:
            labelled = supervised_terms(model, batch, self.tree, self.factor, "structvae")
            if self.line is not None:  # a gradient of zeros, since data-parallel training requires one
                labelled["baseline"] = (0.0 * self.line.sum(), len(batch[self.tree]))
            return labelled
        name, latent = writer_of(model, self.factor, "structvae")
        codes = model.encode(batch, draws=self.samples)
        code = codes[name]
        assert code.log_prob is not None
        assert code.indices is not None
        scored = model.score(batch, codes, draws=self.samples)
        nats, log_q = scored.per_example, code.log_prob.sum(1)
        with torch.no_grad():
            log_prior = latent.prior_log_prob_of(code.indices.squeeze(-1), code.mask).sum(1)
            reward = -nats - self.kl * (log_q - log_prior)
        terms: dict[str, Term] = {}
        if self.line is None:
            base = mean_of_others(reward, self.samples)
        else:
            base = self._learned(model, batch, reward, terms)
        advantage = reward - base
        model.record(reward=reward.mean(), advantage=advantage.square().mean().sqrt(), **scored.rates)
        if self.floor is not None:
            advantage = advantage.clamp(min=self.floor)
        count = len(nats)
        terms["reconstruction"] = (self.unlabelled * nats.sum(), count)
        terms["policy"] = (-self.unlabelled * (advantage * log_q).sum(), count)
        return terms

    def _learned(
        self, model: Model, batch: Batch, reward: Float[Tensor, " s"], terms: dict[str, Term]
    ) -> Float[Tensor, " s"]:
        """Return a * log p(text) + c of each sample, and add the losses that train it and the language model."""
        assert self.line is not None
        language = model.score(batch, Codes({})).per_example
        slope, offset = self.line
        base = (offset - slope * language.detach()).repeat_interleave(self.samples, 0)
        terms["baseline"] = ((reward - base).square().sum(), len(reward))
        terms["language"] = (language.sum(), len(language))
        return base.detach()

    def example(self, data: Signature) -> Mapping[str, Any]:
        """Return a small model of texts and trees."""
        return small_model()
