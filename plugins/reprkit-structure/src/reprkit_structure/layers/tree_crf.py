"""The conditional random field over binary trees: partition function, marginals, entropy, samples, the best tree.

p(tree) is proportional to exp(sum of the scores of its nodes), where ``scores[i, j]`` is that of a node over the words i to j
(Stern et al. 2017, arXiv 1705.03919; Kim et al. 2019, arXiv 1904.03746, section 2.3).  All computations go from narrow spans to
wide ones (or back), all examples, starts and splits of a width at once: O(n) steps, O(b n^3) work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit_structure.layers.charts import lengths_of


class TreeCRF:
    """A distribution over the binary trees of each example.

    Args:
        scores: (b n n), of the nodes over words i to j, both included, i <= j; other cells are not read.
        mask: (b n), the words, which are the first ones of each example; None: all.  Scores of other cells have no effect.

    Raises:
        PartArgumentError: an example without words.
    """

    def __init__(self, scores: Float[Tensor, "b n n"], mask: Bool[Tensor, "b n"] | None = None) -> None:
        size, count = scores.shape[:2]
        self.lengths = lengths_of(mask, size, count, scores.device)
        place = torch.arange(count, device=scores.device)
        inside = (place[:, None] <= place) & (place < self.lengths[:, None, None])
        self.inside, self.scores = inside, scores.masked_fill(~inside, 0.0)

    @cached_property
    def _chart(self) -> tuple[Float[Tensor, " b"], list[Tensor]]:
        """The log partition function, and for each width from 2 the logits of the splits (b starts w-1)."""
        with torch.enable_grad():  # kept for later callers, whatever mode the first one is in
            return _fill(self.scores, self.lengths, lambda logits: logits.logsumexp(-1))

    @property
    def log_partition(self) -> Float[Tensor, " b"]:
        """The logarithm of the sum over all trees."""
        return self._chart[0]

    @cached_property
    def marginals(self) -> Float[Tensor, "b n n"]:
        """The probability of each node; differentiable where ``scores`` has a gradient."""
        return _gradient(
            self.scores, lambda scores: _fill(scores, self.lengths, lambda x: x.logsumexp(-1))[0]
        )

    @cached_property
    def entropy(self) -> Float[Tensor, " b"]:
        """The entropy of the tree, nats; 0 for one or two words.

        H(span) is the entropy of its split, plus the expected entropy of its parts (Hwa 2000; Li and Eisner 2009).
        """
        with torch.enable_grad():
            # Zeros of the graph: also of a batch of single words all scores have a gradient, as data-parallel training requires.
            chart = _Diagonals(0.0 * self.scores[:, :, 0])
            for logits in self._chart[1]:
                log_p = logits.log_softmax(-1)
                chart.add((log_p.exp() * (chart.pairs() - log_p)).sum(-1))
            return chart.roots(self.lengths)

    @cached_property
    def kl_from_uniform(self) -> Float[Tensor, " b"]:
        """KL of the distribution from the uniform one over all binary trees, nats: log of their number minus the entropy."""
        return log_tree_count(self.lengths) - self.entropy

    def log_prob(self, chart: Bool[Tensor, "b n n"]) -> Float[Tensor, " b"]:
        """Return the log-probability of the trees of a chart; that of a chart that is no binary tree has no meaning."""
        return (self.scores * (chart & self.inside)).sum((1, 2)) - self.log_partition

    def best(self) -> Bool[Tensor, "b n n"]:
        """Return the chart of the tree of the highest score (the CKY algorithm); of equal splits the leftmost."""
        with torch.no_grad():
            splits = _fill(self.scores, self.lengths, lambda logits: logits.amax(-1))[1]
            return _follow([logits.argmax(-1) for logits in splits], self.lengths, self.scores.shape[1])

    def sample(self, gumbel: Callable[[Tensor], Tensor]) -> Bool[Tensor, "b n n"]:
        """Draw a tree of each example and return the chart.

        Args:
            gumbel: returns standard Gumbel noise of the shape of its argument, see ``gumbel_noise``.
        """
        with torch.no_grad():
            logits, count = self._chart[1], self.scores.shape[1]
            # One draw for all spans, so that random values are drawn once and depend on shapes alone.
            flat = self.scores.new_zeros(len(self.scores), sum(each[0].numel() for each in logits))
            noise = gumbel(flat).split([each[0].numel() for each in logits], 1)
            choices = [
                (each + drawn.view_as(each)).argmax(-1) for each, drawn in zip(logits, noise, strict=True)
            ]
            return _follow(choices, self.lengths, count)


def gumbel_noise(generator: torch.Generator | None = None) -> Callable[[Tensor], Tensor]:
    """Return a function that draws standard Gumbel noise of the shape of its argument."""

    def draw(like: Tensor) -> Tensor:
        return -torch.empty_like(like).exponential_(generator=generator).log()

    return draw


def log_tree_count(lengths: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Return the logarithm of the number of binary trees over so many words: the Catalan number of one less."""
    n = (lengths - 1).float()
    return torch.lgamma(2 * n + 1) - torch.lgamma(n + 2) - torch.lgamma(n + 1)


class _Diagonals:
    """Values of spans by width: ``pairs`` gives left + right part of every split of every span of the next width."""

    def __init__(self, narrow: Float[Tensor, "b n"]) -> None:
        self.by_start = narrow.unsqueeze(-1)  # [start, width - 1]
        self.by_end = narrow.unsqueeze(-1)  # [end, widths in descending order]

    def pairs(self) -> Float[Tensor, "b s k"]:
        """Return left part + right part, (b starts w-1) for the next width w; the left part has 1 to w - 1 words."""
        width = self.by_start.shape[2] + 1
        return self.by_start[:, : self.by_start.shape[1] - width + 1] + self.by_end[:, width - 1 :]

    def add(self, values: Float[Tensor, "b s"]) -> None:
        """Add the values of the spans of the next width, by start."""
        missing = self.by_start.shape[1] - values.shape[1]
        self.by_start = torch.cat([self.by_start, F.pad(values, (0, missing)).unsqueeze(-1)], -1)
        self.by_end = torch.cat([F.pad(values, (missing, 0)).unsqueeze(-1), self.by_end], -1)

    def roots(self, lengths: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Return the values of the whole examples."""
        return self.by_start[:, 0].gather(1, lengths[:, None] - 1)[:, 0]


def _fill(
    scores: Float[Tensor, "b n n"], lengths: Int[Tensor, " b"], join: Callable[[Tensor], Tensor]
) -> tuple[Float[Tensor, " b"], list[Tensor]]:
    """Return the value of the whole examples, and the logits of all splits by width from 2."""
    chart, splits = _Diagonals(scores.diagonal(0, 1, 2)), []
    for width in range(2, scores.shape[1] + 1):
        splits.append(chart.pairs())
        chart.add(join(splits[-1]) + scores.diagonal(width - 1, 1, 2))
    return chart.roots(lengths), splits


def _follow(choices: list[Tensor], lengths: Int[Tensor, " b"], count: int) -> Bool[Tensor, "b n n"]:
    """Return the chart of the trees that split every span as chosen: for each width from 2 the size of the left part - 1 (b s)."""
    size, end = len(lengths), count * count
    active = torch.zeros(
        size, end + 1, dtype=torch.bool, device=lengths.device
    )  # [i, j], and a cell for what is not in the tree
    active.scatter_(1, lengths[:, None] - 1, True)
    for width in range(count, 1, -1):
        start = torch.arange(count - width + 1, device=lengths.device)
        middle = start + choices[width - 2]  # the last word of the left part
        here = active[:, start * count + start + width - 1]
        for cell in (start * count + middle, (middle + 1) * count + start + width - 1):
            active.scatter_(1, cell.where(here, torch.full_like(cell, end)), True)
    return active[:, :-1].unflatten(1, (count, count))


def _gradient(scores: Tensor, value: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the gradient of the sum of ``value(scores)``, with a graph where ``scores`` has one."""
    graph = scores.requires_grad
    with torch.enable_grad():
        at = scores if graph else scores.detach().requires_grad_()
        return torch.autograd.grad(value(at).sum(), at, create_graph=graph)[0]
