"""The inside algorithm of a probabilistic context-free grammar, with rules of its own for every sentence or shared ones.

The grammar is in the normal form of Kim, Dyer and Rush 2019 (arXiv 1906.10225, section 2.1): N nonterminals and T preterminals,
S = N + T symbols in this order.  All values are log-probabilities::

    start -> A             roots      (r N)          sentences of two or more words
    start -> P             singles    (r T)          sentences of one word, which that normal form lacks
    A     -> B C           rules      (r N S S)      A nonterminal, B and C any symbols
    P     -> word          emissions  (b n T)        of each word under each preterminal

with r = b, or r = 1 for rules that all sentences share.  So log p(sentence) is given whether the sentence has one word or more.

Spans are filled from narrow to wide, all examples, starts and splits of a width at once.  Probabilities are multiplied, and each
span has a scale of its own, as in the scaled forward algorithm of hidden Markov models (Rabiner 1989, section V): the work is
matrix products, O(b n^3 N^2) and O(b n^2 S^2 N).  A symbol less likely than e^-80 times the likeliest of its span counts as
impossible.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit_structure.layers.charts import lengths_of
from reprkit_structure.layers.tree_crf import TreeCRF

_TINY = 1e-35  # added before a logarithm: a sentence that underflows costs 80 nats instead of infinitely many


@dataclass(frozen=True)
class Grammar:
    """A grammar in log-probabilities, and the sentences it is asked about; see the module for shapes.

    Attributes:
        roots: (r N).
        singles: (r T).
        rules: (r N S S).
        emissions: (b n T); rows beyond a sentence are not read.
        mask: (b n), the words, which are the first ones of each example; None: all.
    """

    roots: Float[Tensor, "r N"]
    singles: Float[Tensor, "r T"]
    rules: Float[Tensor, "r N S S"]
    emissions: Float[Tensor, "b n T"]
    mask: Bool[Tensor, "b n"] | None = None

    @property
    def lengths(self) -> Int[Tensor, " b"]:
        """Number of words of each sentence.

        Raises:
            PartArgumentError: a sentence without words.
        """
        size, count, _ = self.emissions.shape
        return lengths_of(self.mask, size, count, self.emissions.device)

    def log_prob(self, spans: Float[Tensor, "b n n"] | None = None) -> Float[Tensor, " b"]:
        """Return the log-probability of each sentence, summed over all its trees (the inside algorithm).

        Args:
            spans: scores that are added to every node over words i to j, i < j; their gradient is the posterior of the span.
        """
        return InsideChart(self, spans).log_prob

    def posteriors(self) -> Float[Tensor, "b n n"]:
        """Return the posterior probability of a node over each span of two or more words, without a gradient."""
        size, count, _ = self.emissions.shape
        with torch.enable_grad():
            spans = self.emissions.new_zeros(size, count, count, requires_grad=True)
            if count == 1:
                return spans.detach()
            constant = {
                name: getattr(self, name).detach() for name in ("roots", "singles", "rules", "emissions")
            }
            total = replace(self, **constant).log_prob(spans).sum()
            return torch.autograd.grad(total, spans)[0]

    def best(self) -> Bool[Tensor, "b n n"]:
        """Return the chart of the tree with the most expected correct brackets (Goodman 1996): CKY over ``posteriors``."""
        return TreeCRF(self.posteriors(), self.mask).best()


class InsideChart:
    """The inside probabilities of all spans, each divided by the exponential of its scale.

    Attributes:
        words: of single words under the preterminals (b n T).
        word_scales: (b n).
        by_start: of the spans of two or more words under the nonterminals [start, width - 2] (b n n-1 N).
        scales: of these (b n n-1).
        log_prob: of the sentences (b).
    """

    def __init__(self, grammar: Grammar, spans: Float[Tensor, "b n n"] | None = None) -> None:
        emissions = grammar.emissions
        if grammar.mask is not None:
            emissions = emissions.masked_fill(~grammar.mask.unsqueeze(-1), 0.0)
        self.word_scales = emissions.detach().amax(-1)
        self.words = (emissions - self.word_scales.unsqueeze(-1)).exp()
        count, joined = emissions.shape[1], _Rules(grammar.rules)
        shape = (len(emissions), count, 0)
        self.by_start = self.words.new_zeros(*shape, joined.nonterminals)
        by_end = self.by_start  # [last word, widths in descending order]
        self.scales = scales_by_end = self.words.new_zeros(shape)
        for width in range(2, count + 1):
            starts = count - width + 1
            left, right = self.by_start[:, :starts], by_end[:, width - 1 :]
            found, scale = self._join(joined, width, left, right, scales_by_end)
            if spans is not None:
                found = found * spans.diagonal(width - 1, 1, 2).exp().unsqueeze(-1)
            with torch.no_grad():
                top = found.amax(-1).clamp(min=_TINY)
                scale = scale + top.log()
            found = found / top.unsqueeze(-1)
            after, before = (0, 0, 0, width - 1), (0, 0, width - 1, 0)
            self.by_start = torch.cat([self.by_start, F.pad(found, after).unsqueeze(2)], 2)
            by_end = torch.cat([F.pad(found, before).unsqueeze(2), by_end], 2)
            self.scales = torch.cat([self.scales, F.pad(scale, after[2:]).unsqueeze(2)], 2)
            scales_by_end = torch.cat([F.pad(scale, before[2:]).unsqueeze(2), scales_by_end], 2)
        self.log_prob = self._sentences(grammar)

    def _join(
        self,
        rules: _Rules,
        width: int,
        left: Float[Tensor, "b s k N"],
        right: Float[Tensor, "b s k N"],
        scales_by_end: Float[Tensor, "b n k"],
    ) -> tuple[Float[Tensor, "b s N"], Float[Tensor, "b s"]]:
        """Return the inside probabilities of the spans of a width, by start, and their scale.

        ``left`` has the parts of 2 to width - 1 words, ``right`` those of width - 1 to 2.
        """
        starts = self.words.shape[1] - width + 1
        first, last = self.words[:, :starts], self.words[:, width - 1 :]
        first_scale, last_scale = self.word_scales[:, :starts], self.word_scales[:, width - 1 :]
        if width == 2:
            return rules.two_words(first, last), first_scale + last_scale
        # Scales are constants, also for the gradient, since the result does not depend on them.
        with torch.no_grad():
            word_left = first_scale + scales_by_end[:, width - 1 :, 0]
            word_right = self.scales[:, :starts, -1] + last_scale
            scale = torch.maximum(word_left, word_right)
            if width > 3:
                inner = self.scales[:, :starts, :-1] + scales_by_end[:, width - 1 :, 1:]
                scale = torch.maximum(scale, inner.amax(2))
                weights = (inner - scale.unsqueeze(2)).exp()
            here = (word_left - scale).exp().unsqueeze(-1), (word_right - scale).exp().unsqueeze(-1)
        found = rules.word_left(first * here[0], right[:, :, 0]) + rules.word_right(
            left[:, :, -1], last * here[1]
        )
        if width > 3:
            found = found + rules.phrases(left[:, :, :-1] * weights.unsqueeze(-1), right[:, :, 1:])
        return found, scale

    def _sentences(self, grammar: Grammar) -> Float[Tensor, " b"]:
        lengths = grammar.lengths
        single = (grammar.singles.exp() * self.words[:, 0]).sum(-1).add(_TINY).log() + self.word_scales[:, 0]
        if self.words.shape[1] == 1:
            return single
        place = (lengths - 2).clamp(min=0)
        root = self.by_start[:, 0].gather(1, place.view(-1, 1, 1).expand(-1, 1, self.by_start.shape[-1]))[
            :, 0
        ]
        several = (grammar.roots.exp() * root).sum(-1).add(_TINY).log()
        several = several + self.scales[:, 0].gather(1, place[:, None])[:, 0]
        return torch.where(lengths > 1, several, single)


class _Rules:
    """The rules as four matrices, by whether the parts are words or phrases: rows are pairs of parts, columns the nonterminals."""

    def __init__(self, rules: Float[Tensor, "r N S S"]) -> None:
        n = self.nonterminals = rules.shape[1]
        chances = rules.exp()
        self._phrases, self._word_right = _pairs(chances[:, :, :n, :n]), _pairs(chances[:, :, :n, n:])
        self._word_left, self._words = _pairs(chances[:, :, n:, :n]), _pairs(chances[:, :, n:, n:])

    def two_words(self, left: Tensor, right: Tensor) -> Tensor:
        """Join two words: (b s T), (b s T) to (b s N)."""
        return _apply(_outer(left, right), self._words)

    def word_left(self, left: Tensor, right: Tensor) -> Tensor:
        """Join a word and a phrase: (b s T), (b s N) to (b s N)."""
        return _apply(_outer(left, right), self._word_left)

    def word_right(self, left: Tensor, right: Tensor) -> Tensor:
        """Join a phrase and a word: (b s N), (b s T) to (b s N)."""
        return _apply(_outer(left, right), self._word_right)

    def phrases(self, left: Tensor, right: Tensor) -> Tensor:
        """Join two phrases, summed over splits: (b s k N), (b s k N) to (b s N)."""
        return _apply((left.transpose(2, 3) @ right).flatten(2), self._phrases)


def _pairs(rules: Float[Tensor, "r N B C"]) -> Float[Tensor, "r BC N"]:
    return rules.flatten(2).transpose(1, 2).contiguous()


def _outer(left: Float[Tensor, "b s B"], right: Float[Tensor, "b s C"]) -> Float[Tensor, "b s BC"]:
    return (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(2)


def _apply(pairs: Float[Tensor, "b s BC"], rules: Float[Tensor, "r BC N"]) -> Float[Tensor, "b s N"]:
    return pairs @ (rules[0] if len(rules) == 1 else rules)
