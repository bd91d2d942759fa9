"""Self-critic: a critic of prefixes rewards each word by how it changes the critic's score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit import Objective
from reprkit.errors import BuildError
from reprkit.interfaces import Term
from reprkit.layers.recurrent import run_recurrent
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import Share, Width
from reprkit.types import Batch
from reprkit.utils import collectives
from reprkit_text.objectives.inputs import batch_texts, word_latent

if TYPE_CHECKING:
    from reprkit import Model


class PrefixCritic(nn.Module):
    """An LSTM that scores after every word whether the text so far is human: words (b m) to logits (b m)."""

    def __init__(self, vocab: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.last = nn.Linear(width, 1)

    def forward(self, words: Int[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        """Return the logits; each depends only on the words up to its own."""
        return self.last(run_recurrent(self.lstm, self.embedding(words))[0]).squeeze(-1)


class SelfCritic(Objective):
    """Adversarial REINFORCE with a critic of prefixes (Wang and Lee 2018, arXiv 1810.02851).

    Turn "critic" trains it, by cross-entropy on every prefix, to tell texts of field ``real`` from sampled ones.  In turn "main"
    each sampled word is rewarded by the discounted scores from there on, less their mean over the batch at that position:

    - "difference": the change of the score, s_i - s_(i-1), with s_0 = 1/2, as in the paper;
    - "score": the score itself, 2 s_i - 1 (de Masson d'Autume et al. 2019, ScratchGAN, arXiv 1905.09922), which the authors'
      later code uses.

    Needs a latent of words.  The gradient flows through ``log_prob`` only, so any ``gradient`` of the latent works.

    Losses, without unit: turn "main": ``adversarial``, whose gradient is that of minus the expected reward, summed over words and
    averaged over examples (its value has no meaning); turn "critic": ``critic``, nats per word, real plus sampled.  Metrics:
    ``reward``, mean score of whole texts, in [0, 1]; in the critic's turn ``critic_accuracy``, on whole texts.

    Args:
        real: the field of human texts.
        reward: see above.
        discount: discount factor of later words' rewards, in [0, 1].
        factor: name of the factor whose code is trained; None for the only factor.
        width: width of the critic.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: no such factor or field, or a latent that is not of words.
    """

    needs = frozenset({"encoder", "indices"})
    turns = ("main", "critic")
    distributes = "gather"

    def __init__(
        self,
        *,
        real: str = "summary",
        reward: Literal["difference", "score"] = "difference",
        discount: Share = 0.9,
        factor: str | None = None,
        width: Width = 128,
    ) -> None:
        super().__init__()
        self.real, self.reward, self.discount = real, reward, float(discount)
        self.factor, self.width = factor, width
        self.critic: nn.Module = nn.Identity()

    def bind(self, model: Model) -> None:
        """Build the critic for the latent's vocabulary."""
        latent = word_latent(
            model, resolve_factor(model.factors, self.factor, "objective self-critic"), "self-critic"
        )
        if model.signature is not None:
            model.signature[self.real]  # raises and names the known fields
        assert latent.vocab is not None  # a latent of words
        self.critic = PrefixCritic(latent.vocab[0], self.width)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Compute the losses of one batch in one turn."""
        name = resolve_factor(model.factors, self.factor, "objective self-critic")
        if turn == "critic":
            return self._critic_losses(model, name, batch)
        code = model.encode(batch, factors=[name])[name]
        if code.log_prob is None or code.indices is None or code.mask is None:
            raise BuildError("objective self-critic needs a code with log_prob, indices and a mask")
        with torch.no_grad():
            score = self.critic(code.indices[..., 0]).sigmoid()
            returns = self._returns(score, code.mask)
            model.record(reward=_at_last_word(score, code.mask).mean())
        return {"adversarial": (-(returns * code.log_prob).sum(), len(returns))}

    def _critic_losses(self, model: Model, name: str, batch: Batch) -> dict[str, Term]:
        latent = word_latent(model, name, "self-critic")
        with torch.no_grad():
            sampled = model.encode(batch, factors=[name])[name]
            real = latent.code_of(*batch_texts(batch, self.real))
        total, accuracies = torch.zeros((), device=sampled.z.device), []
        for code, truth in ((real, 1.0), (sampled, 0.0)):
            assert code.indices is not None  # codes of words
            assert code.mask is not None
            logits = self.critic(code.indices[..., 0])
            nats = F.binary_cross_entropy_with_logits(
                logits, torch.full_like(logits, truth), reduction="none"
            )
            total = total + ((nats * code.mask).sum(1) / code.mask.sum(1)).sum()
            accuracies.append(((_at_last_word(logits, code.mask) > 0) == bool(truth)).float().mean())
        model.record(critic_accuracy=sum(accuracies) / 2)
        return {"critic": (total, len(sampled.z))}

    def _returns(self, score: Float[Tensor, "b m"], mask: Bool[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        """Return the discounted sum of rewards from each word on, less its mean at that position over the batch of all ranks."""
        if self.reward == "score":
            rewards = 2 * score - 1
        else:
            rewards = score - torch.cat([torch.full_like(score[:, :1], 0.5), score[:, :-1]], 1)
        rewards, after, steps = rewards * mask, torch.zeros_like(score[:, 0]), []
        for position in reversed(range(mask.shape[1])):
            after = rewards[:, position] + self.discount * after
            steps.append(after)
        returns = torch.stack(steps[::-1], 1) * mask
        sums = collectives.sum_over_ranks(torch.stack([returns.sum(0), mask.sum(0).to(returns)]))
        return (returns - sums[0] / sums[1].clamp(min=1)) * mask


def _at_last_word(values: Float[Tensor, "b m"], mask: Bool[Tensor, "b m"]) -> Float[Tensor, " b"]:
    """Return the value at each text's last word."""
    return values.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0)).squeeze(1)
