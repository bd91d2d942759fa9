"""A network that writes words one after another while it looks at features."""

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

NEVER = -1e4  # log-probability of a word that must not be written: exp is 0, and 0 times it is 0 and not NaN


@dataclass(frozen=True)
class Memory:
    """What the features tell the generator, worked out once a text.

    Attributes:
        x: the features (b n d), zero where they are not valid.
        mask: which are valid (b n), or None.
        keys: by which they are found (b n d).
        spoken: the word that each of them would say (b n v); None without copying.
        about: their mean, added to every input (b 1 d).
    """

    x: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"] | None
    keys: Float[Tensor, "b n d"]
    spoken: Float[Tensor, "b n v"] | None
    about: Float[Tensor, "b 1 d"]

    def detached(self) -> Memory:
        """The same without gradients."""
        spoken = None if self.spoken is None else self.spoken.detach()
        return Memory(self.x.detach(), self.mask, self.keys.detach(), spoken, self.about.detach())


class Generator(nn.Module):
    """A causal trunk over the words so far, then attention over the features, then a distribution over words.

    ::

        words so far ──► embedding + mean of the features ──► GRU or transformer ──► h (b m d)
        features (b n d) ──► attention by h ──► c (b m d)
        p(word) = g * softmax(V [h; c]) + (1 - g) * sum over n of attention_n * softmax(U x_n)

    Attention after the recurrence is Luong et al. 2015 (arXiv 1508.04025), section 3.1.  The second part of the mixture is a
    pointer (See et al. 2017, arXiv 1704.04368, eq. 9): it copies what stands at a place of the features.  A latent is not
    told of the words of the text that was encoded, so what stands there is read from the feature itself, by U.

    Args:
        vocab: words.
        width: of embeddings, features and states.
        kind: "gru" or "transformer".
        depth: layers of the trunk.
        heads: attention heads of a transformer.
        copy: whether there is a pointer.
        dropout: of the transformer's blocks and of the attended state, in [0, 1).
        blank: whether the embeddings have a row more, ``vocab``, for words that are not told.
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

    def memory(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Memory:
        """What features say; ``x`` is zero where it is not valid."""
        if mask is None:
            mean = x.mean(1, keepdim=True)
        else:
            mean = x.sum(1, keepdim=True) / mask.sum(1).clamp(min=1)[:, None, None]
        spoken = None if self.spoken is None else self.spoken(x).softmax(-1)
        return Memory(x, mask, self.key(x), spoken, self.about(mean))

    def all_steps(self, words: Int[Tensor, "b m"], memory: Memory) -> Float[Tensor, "b m v"]:
        """Log-probabilities of every word given those before it: teacher forcing."""
        start = self.start.expand(len(words), 1, -1)
        inputs = torch.cat([start, self.embedding(words[:, :-1])], 1) + memory.about
        return self._words(self.trunk(self._placed(inputs, 0)), memory)

    def begin(self, size: int, length: int) -> Any:
        """The state before the first word of ``size`` texts of at most ``length`` words."""
        return (
            self.trunk.state(size) if isinstance(self.trunk, Recurrent) else self.trunk.caches(size, length)
        )

    def one_step(
        self, previous: Int[Tensor, " b"] | None, state: Any, place: int, memory: Memory
    ) -> tuple[Float[Tensor, "b v"], Any]:
        """Log-probabilities of the word at ``place``, given the one before it (None at the first), and the next state."""
        if previous is None:
            fed = self.start.expand(len(memory.x), 1, -1)
        else:
            fed = self.embedding(previous).unsqueeze(1)
        x = self._placed(fed + memory.about, place)
        if isinstance(self.trunk, Recurrent):
            out, state = self.trunk.step(x, state)
        else:
            keys, values = state
            out = self.trunk.step(x, keys, values, place)
        return self._words(out, memory)[:, 0], state

    def _placed(self, x: Tensor, first: int) -> Tensor:
        if self.kind == "gru":
            return x
        places = torch.arange(first, first + x.shape[1], device=x.device)
        return x + sinusoidal_positions(places, self.width).to(x.dtype)

    def _words(self, hidden: Float[Tensor, "b m d"], memory: Memory) -> Float[Tensor, "b m v"]:
        scores = self.query(hidden) @ memory.keys.mT / self.width**0.5
        if (
            memory.mask is not None
        ):  # a text without a valid feature looks at zeros: finite, and of no meaning
            scores = scores.masked_fill(~memory.mask.unsqueeze(1), NEVER)
        attention = scores.softmax(-1)
        both = torch.cat([hidden, attention @ memory.x], -1)
        own = F.log_softmax(self.out(self.drop(self.mix(both).tanh())), -1)
        if self.gate is None or memory.spoken is None:
            return own
        gate = self.gate(both)
        copied = (attention @ memory.spoken).clamp(min=1e-12).log()
        return torch.logaddexp(F.logsigmoid(gate) + own, F.logsigmoid(-gate) + copied)
