"""The self-critic: a critic that reads word after word rewards each word by what it did to its verdict."""

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
from reprkit.models.factor import factor_of
from reprkit.registry.constraints import Share, Width
from reprkit.types import Batch
from reprkit.utils import collectives
from reprkit_text.objectives.scope import texts_of, words_of

if TYPE_CHECKING:
    from reprkit import Model


class PrefixCritic(nn.Module):
    """An LSTM that says after every word how much the text so far is a person's: words (b m) to logits (b m)."""

    def __init__(self, vocab: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.last = nn.Linear(width, 1)

    def forward(self, words: Int[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        """The logits; each depends on the words up to its own only."""
        return self.last(run_recurrent(self.lstm, self.embedding(words))[0]).squeeze(-1)


class SelfCritic(Objective):
    """Adversarial REINFORCE with a critic of prefixes (Wang and Lee 2018, arXiv 1810.02851).

    Turn "critic" teaches it, by cross-entropy on every prefix, to tell texts of field ``real`` from drawn ones.  In turn "main"
    each drawn word is rewarded by the verdicts from there on, discounted, less their mean over the batch at that place:

    - "difference": what the word did to the verdict, s_i - s_(i-1), with s_0 = 1/2: the paper's;
    - "score": the verdict itself, 2 s_i - 1 (de Masson d'Autume et al. 2019, ScratchGAN, arXiv 1905.09922), which the authors'
      later code uses.

    Needs a latent of words.  The gradient passes ``log_prob`` only, so any ``gradient`` of the latent does.

    Losses, of no unit: turn "main": ``adversarial``, whose gradient is that of minus the expected reward, summed over words and
    averaged over examples (its value means nothing); turn "critic": ``critic``, nats a word, real plus drawn.  Metrics:
    ``reward``, mean verdict on whole texts, in [0, 1]; of the critic's turn ``critic_accuracy``, of whole texts.

    Args:
        real: the field of human texts.
        reward: see above.
        discount: of the rewards of later words, in [0, 1].
        factor: whose code; the only factor when None.
        width: of the critic.

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
        """Make the critic, for the latent's words."""
        latent = words_of(
            model, factor_of(model.factors, self.factor, "objective self-critic"), "self-critic"
        )
        if model.signature is not None:
            model.signature[self.real]  # says which fields there are
        assert latent.vocab is not None  # a latent of words
        self.critic = PrefixCritic(latent.vocab[0], self.width)

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """The losses of one batch, of one turn."""
        name = factor_of(model.factors, self.factor, "objective self-critic")
        if turn == "critic":
            return self._taught(model, name, batch)
        code = model.encode(batch, factors=[name])[name]
        if code.log_prob is None or code.indices is None or code.mask is None:
            raise BuildError("objective self-critic needs a code with log_prob, indices and a mask")
        with torch.no_grad():
            verdict = self.critic(code.indices[..., 0]).sigmoid()
            returns = self._returns(verdict, code.mask)
            model.record(reward=_last(verdict, code.mask).mean())
        return {"adversarial": (-(returns * code.log_prob).sum(), len(returns))}

    def _taught(self, model: Model, name: str, batch: Batch) -> dict[str, Term]:
        latent = words_of(model, name, "self-critic")
        with torch.no_grad():
            made = model.encode(batch, factors=[name])[name]
            real = latent.spell(*texts_of(batch, self.real))
        total, right = torch.zeros((), device=made.z.device), []
        for code, truth in ((real, 1.0), (made, 0.0)):
            assert code.indices is not None  # codes of words
            assert code.mask is not None
            logits = self.critic(code.indices[..., 0])
            each = F.binary_cross_entropy_with_logits(
                logits, torch.full_like(logits, truth), reduction="none"
            )
            total = total + ((each * code.mask).sum(1) / code.mask.sum(1)).sum()
            right.append(((_last(logits, code.mask) > 0) == bool(truth)).float().mean())
        model.record(critic_accuracy=sum(right) / 2)
        return {"critic": (total, len(made.z))}

    def _returns(self, verdict: Float[Tensor, "b m"], mask: Bool[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        """The discounted sum of rewards from each word on, less the mean of the batch of all ranks at that place."""
        if self.reward == "score":
            rewards = 2 * verdict - 1
        else:
            rewards = verdict - torch.cat([torch.full_like(verdict[:, :1], 0.5), verdict[:, :-1]], 1)
        rewards, after, made = rewards * mask, torch.zeros_like(verdict[:, 0]), []
        for place in reversed(range(mask.shape[1])):
            after = rewards[:, place] + self.discount * after
            made.append(after)
        returns = torch.stack(made[::-1], 1) * mask
        sums = collectives.sum_over_ranks(torch.stack([returns.sum(0), mask.sum(0).to(returns)]))
        return (returns - sums[0] / sums[1].clamp(min=1)) * mask


def _last(values: Float[Tensor, "b m"], mask: Bool[Tensor, "b m"]) -> Float[Tensor, " b"]:
    """The value at each text's last word."""
    return values.gather(1, (mask.sum(1, keepdim=True) - 1).clamp(min=0)).squeeze(1)
