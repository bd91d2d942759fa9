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
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit_structure.layers.charts import lengths_of
from reprkit_structure.layers.inside import TINY, Rules, inside
from reprkit_structure.layers.tree_crf import TreeCRF


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
        words, scales, lengths = *self.scaled_words(), self.lengths
        single = (self.singles.exp() * words[:, 0]).sum(-1).add(TINY).log() + scales[:, 0]
        if words.shape[1] == 1:
            # Plus 0: rules get a gradient of zeros, since data-parallel training requires one.
            return single + self.roots[:0].sum() + self.rules[:0].sum()
        chart = inside(words, scales, lengths, Rules.of(self.rules), spans)
        several = (self.roots.exp() * chart.root).sum(-1).add(TINY).log() + chart.root_scale
        return torch.where(lengths > 1, several, single)

    def scaled_words(self) -> tuple[Float[Tensor, "b n T"], Float[Tensor, "b n"]]:
        """Return the probabilities of the words, divided by the exponential of their scales, and these; 1 beyond a sentence."""
        emissions = self.emissions
        if self.mask is not None:
            emissions = emissions.masked_fill(~self.mask.unsqueeze(-1), 0.0)
        scales = emissions.detach().amax(-1)
        return (emissions - scales.unsqueeze(-1)).exp(), scales

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
