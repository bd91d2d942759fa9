"""An autoregressive generator of words with attention over features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit.layers.attention import Blocks
from reprkit.layers.dropout import Dropout
from reprkit.layers.positions import sinusoidal_positions
from reprkit.layers.recurrent import Recurrent

FORBIDDEN = -1e4  # log-probability of a forbidden word: exp is 0, and 0 times it is 0, not NaN
_FOLLOW = 4.0  # start of the learned score of the position after the last copied word


@dataclass(frozen=True)
class Memory:
    """Everything the generator reads of the features, computed once per text.

    Attributes:
        x: the features (b n d), zero where masked.
        mask: which are valid (b n), or None.
        keys: their attention keys (b n d).
        copied: probabilities of the word that each of them stands for (b n v); None without copying.
        context: a projection of their mean, added to every input (b 1 d).
    """

    x: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"] | None
    keys: Float[Tensor, "b n d"]
    copied: Float[Tensor, "b n v"] | None
    context: Float[Tensor, "b 1 d"]

    def detach(self) -> Memory:
        """Return a copy without gradients."""
        copied = None if self.copied is None else self.copied.detach()
        return Memory(self.x.detach(), self.mask, self.keys.detach(), copied, self.context.detach())


class Generator(nn.Module):
    """A causal trunk over the words so far, then attention over the features, then a distribution over words.

    ::

        words so far ──► embedding + mean of the features ──► GRU or transformer ──► h (b m d)
        features (b n d) ──► attention by h ──► c (b m d)
        p(word) = g * softmax(V [h; c]) + (1 - g) * sum over n of attention_n * softmax(U x_n)

    Attention after the recurrence is Luong et al. 2015 (arXiv 1508.04025), section 3.1.  The second part of the mixture is a
    pointer (See et al. 2017, arXiv 1704.04368, eq. 9): it copies the word at a position of the features.  A latent does not
    see the words of the encoded text, so the word at a position is predicted from the feature itself, by U.

    With ``follow``, a learned multiple of the probability that the word at position n - 1 is the last one written is added to the
    attention's score of position n: the generator goes on copying where it is, an induction head (Olsson et al. 2022, arXiv
    2209.11895).

    Args:
        vocab: number of words.
        width: width of embeddings, features and states.
        kind: "gru" or "transformer".
        depth: layers of the trunk.
        heads: attention heads of a transformer.
        copy: whether there is a pointer.
        dropout: dropout rate of the transformer's blocks and of the attended state, in [0, 1).
        blank: whether the embeddings have one more row, ``vocab``, for unknown inputs.
        follow: see above; needs ``copy``.
    """

    def __init__(
        self,
        vocab: int,
        width: int,
        *,
        kind: str,
        depth: int,
        heads: int,
        copy: bool,
        dropout: float,
        blank: bool = False,
        follow: bool = False,
    ) -> None:
        super().__init__()
        self.vocab, self.width, self.kind = vocab, width, kind
        self.embedding = nn.Embedding(vocab + blank, width)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.about = nn.Linear(width, width)
        self.trunk: Recurrent | Blocks
        if kind == "gru":
            self.trunk = Recurrent(width, depth=depth, causal=True)
        else:
            self.trunk = Blocks(width, depth=depth, heads=heads, causal=True, dropout=dropout)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.mix, self.drop = nn.Linear(2 * width, width), Dropout(dropout)
        self.out = nn.Linear(width, vocab)
        self.spoken = nn.Linear(width, vocab) if copy else None
        self.gate = nn.Linear(2 * width, 1) if copy else None
        self.follow = nn.Parameter(torch.tensor(_FOLLOW)) if copy and follow else None

    @property
    def table(self) -> Float[Tensor, "v d"]:
        """The embedding of every word."""
        return self.embedding.weight[: self.vocab]

    def embed(self, words: Int[Tensor, "b m"]) -> Float[Tensor, "b m d"]:
        """Embed words."""
        return self.embedding(words)

    def memory(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Memory:
        """Prepare features; ``x`` is zero where masked."""
        if mask is None:
            mean = x.mean(1, keepdim=True)
        else:
            mean = x.sum(1, keepdim=True) / mask.sum(1).clamp(min=1)[:, None, None]
        copied = None if self.spoken is None else self.spoken(x).softmax(-1)
        return Memory(x, mask, self.key(x), copied, self.about(mean))

    def all_steps(self, words: Int[Tensor, "b m"], memory: Memory) -> Float[Tensor, "b m v"]:
        """Return log-probabilities of every word given those before it: teacher forcing."""
        start = self.start.expand(len(words), 1, -1)
        inputs = torch.cat([start, self.embedding(words[:, :-1])], 1) + memory.context
        before = F.pad(words[:, :-1], (1, 0), value=self.vocab)
        return self._log_probs(self.trunk(self._add_positions(inputs, 0)), memory, before)

    def begin(self, size: int, length: int) -> Any:
        """Return the state before the first word of ``size`` texts of at most ``length`` words."""
        return (
            self.trunk.state(size) if isinstance(self.trunk, Recurrent) else self.trunk.caches(size, length)
        )

    def one_step(
        self, previous: Int[Tensor, " b"] | None, state: Any, position: int, memory: Memory
    ) -> tuple[Float[Tensor, "b v"], Any]:
        """Return log-probabilities of the word at ``position``, given the one before (None at the first), and the next state."""
        if previous is None:
            inputs = self.start.expand(len(memory.x), 1, -1)
        else:
            inputs = self.embedding(previous).unsqueeze(1)
        x = self._add_positions(inputs + memory.context, position)
        if isinstance(self.trunk, Recurrent):
            out, state = self.trunk.step(x, state)
        else:
            keys, values = state
            out = self.trunk.step(x, keys, values, position)
        before = (
            torch.full((len(x), 1), self.vocab, device=x.device) if previous is None else previous[:, None]
        )
        return self._log_probs(out, memory, before)[:, 0], state

    def _add_positions(self, x: Tensor, first: int) -> Tensor:
        if self.kind == "gru":
            return x
        positions = torch.arange(first, first + x.shape[1], device=x.device)
        return x + sinusoidal_positions(positions, self.width).to(x.dtype)

    def _following(self, before: Int[Tensor, "b m"], memory: Memory) -> Float[Tensor, "b m n"]:
        """Return the probability that the word at position n - 1 is the word before step m; ``vocab`` is no word."""
        assert memory.copied is not None
        known = before.clamp(max=self.vocab - 1)
        index = known.unsqueeze(1).expand(-1, memory.copied.shape[1], -1)
        at_position = memory.copied.gather(2, index).mT * (before < self.vocab).unsqueeze(-1)
        return F.pad(at_position, (1, 0))[..., :-1]

    def _log_probs(
        self, hidden: Float[Tensor, "b m d"], memory: Memory, before: Int[Tensor, "b m"]
    ) -> Float[Tensor, "b m v"]:
        scores = self.query(hidden) @ memory.keys.mT / self.width**0.5
        if self.follow is not None:
            scores = scores + self.follow * self._following(before, memory)
        if (
            memory.mask is not None
        ):  # a text without a valid feature attends to zeros: finite, without meaning
            scores = scores.masked_fill(~memory.mask.unsqueeze(1), FORBIDDEN)
        attention = scores.softmax(-1)
        both = torch.cat([hidden, attention @ memory.x], -1)
        own = F.log_softmax(self.out(self.drop(self.mix(both).tanh())), -1)
        if self.gate is None or memory.copied is None:
            return own
        gate = self.gate(both)
        copied = (attention @ memory.copied).clamp(min=1e-12).log()
        return torch.logaddexp(F.logsigmoid(gate) + own, F.logsigmoid(-gate) + copied)
