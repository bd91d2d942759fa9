"""The network that writes derivations: the rules so far, what is to be written next, and attention over features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit.layers.dropout import Dropout
from reprkit.layers.recurrent import Recurrent, State

_LITTLE = 1e-12


@dataclass(frozen=True)
class Source:
    """What the writer reads of a text, computed once.

    Attributes:
        x: the features (b n d), zeros where masked.
        mask: which are valid (b n), or None.
        keys: their attention keys (b n d).
        copied: probabilities of the rule that each of them stands for (b n v); None without copying.
    """

    x: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"] | None
    keys: Float[Tensor, "b n d"]
    copied: Float[Tensor, "b n v"] | None

    def detach(self) -> Source:
        """Return a copy without gradients."""
        return Source(
            self.x.detach(),
            self.mask,
            self.keys.detach(),
            None if self.copied is None else self.copied.detach(),
        )


class TreeWriter(nn.Module):
    """Scores of the next rule, given those before it, the rule that opened its symbol, and features.

    ::

        rule before + rule above + place below that one ──► GRU ──► h (b m d)
        features (b n d) ──► attention by h ──► c (b m d)
        p(rule) = g * softmax(V [h; c]) + (1 - g) * sum over n of attention_n * softmax(U x_n)

    The inputs are those of Yin and Neubig 2018 (arXiv 1810.02720, section 3.1, "parent feeding"); the second part copies from
    the text, where U predicts from a feature the rule that writes its word.  Without features it is a language model of trees.

    Args:
        rules: number of rules (v).
        widest: largest number of symbols on a rule's right side.
        width: of features, embeddings and states.
        copy: whether rules are also copied from the features.
        dropout: dropout rate of inputs and states, in [0, 1).
        attends: whether there are features.
    """

    def __init__(
        self, rules: int, widest: int, width: int, *, copy: bool, dropout: float, attends: bool = True
    ) -> None:
        super().__init__()
        self.width = width
        self.before = nn.Embedding(rules + 1, width)  # and one before the first rule
        self.above = nn.Embedding(rules + 1, width)  # and one above the root
        self.place = nn.Embedding(max(1, widest), width)
        self.trunk, self.drop = Recurrent(width, depth=1, causal=True), Dropout(dropout)
        self.query = nn.Linear(width, width) if attends else None
        self.key = nn.Linear(width, width) if attends else None
        self.mix = nn.Linear(2 * width if attends else width, width)
        self.out = nn.Linear(width, rules)
        self.copy_head = nn.Linear(width, rules) if copy and attends else None
        self.gate = nn.Linear(2 * width, 1) if copy and attends else None

    def source(self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Source:
        """Prepare features; ``x`` is zero where masked."""
        assert self.key is not None
        return Source(x, mask, self.key(x), None if self.copy_head is None else self.copy_head(x).softmax(-1))

    def all_steps(
        self,
        rules: Int[Tensor, "b m"],
        above: Int[Tensor, "b m"],
        place: Int[Tensor, "b m"],
        source: Source | None,
    ) -> Float[Tensor, "b m v"]:
        """Return scores of every rule given those before it, log-probabilities up to a constant: teacher forcing."""
        first = rules.new_full((len(rules), 1), self.out.out_features)
        x = self.before(torch.cat([first, rules[:, :-1]], 1)) + self.above(above) + self.place(place)
        return self._scores(self.trunk(self.drop(x)), source)

    def begin(self, size: int) -> State:
        """Return the state before the first rule."""
        return self.trunk.state(size)

    def one_step(
        self,
        before: Int[Tensor, " b"] | None,
        above: Int[Tensor, " b"],
        place: Int[Tensor, " b"],
        state: State,
        source: Source | None,
    ) -> tuple[Float[Tensor, "b v"], State]:
        """Return scores of the next rule, given the one before (None at the first), and the next state."""
        if before is None:
            before = torch.full_like(above, self.out.out_features)
        x = self.before(before) + self.above(above) + self.place(place)
        hidden, state = self.trunk.step(self.drop(x.unsqueeze(1)), state)
        return self._scores(hidden, source)[:, 0], state

    def _scores(self, hidden: Float[Tensor, "b m d"], source: Source | None) -> Float[Tensor, "b m v"]:
        if source is None or self.query is None:
            return self.out(self.drop(self.mix(hidden).tanh()))
        scores = self.query(hidden) @ source.keys.mT / self.width**0.5
        if source.mask is not None:  # a text without valid features attends to zeros
            scores = scores.masked_fill(~source.mask.unsqueeze(1), torch.finfo(scores.dtype).min)
        attention = scores.softmax(-1)
        both = torch.cat([hidden, attention @ source.x], -1)
        own = self.out(self.drop(self.mix(both).tanh()))
        if self.gate is None or source.copied is None:
            return own
        gate, copied = self.gate(both), (attention @ source.copied).clamp(min=_LITTLE).log()
        return torch.logaddexp(F.logsigmoid(gate) + own.log_softmax(-1), F.logsigmoid(-gate) + copied)
