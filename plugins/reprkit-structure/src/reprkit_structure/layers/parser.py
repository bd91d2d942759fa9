"""A parser over the tokens of an encoder: scores of spans, a tree drawn or chosen, and its nodes in post-order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit import Features
from reprkit.latents.functional import draw_noise, sample_exponential, zero_padding
from reprkit_structure.layers.charts import parents_of, post_order
from reprkit_structure.layers.tree_crf import TreeCRF


@dataclass(frozen=True)
class Parsed:
    """A binary tree of each example, t = 2n - 1 nodes in post-order.

    Attributes:
        crf: the distribution over trees.
        ends: first and last word of each node (b t 2).
        mask: which nodes exist (b t).
        parents: (b t).
        log_prob: of the whole tree, at its root; 0 elsewhere (b t), nats.
    """

    crf: TreeCRF
    ends: Int[Tensor, "b t 2"]
    mask: Bool[Tensor, "b t"]
    parents: Int[Tensor, "b t"]
    log_prob: Float[Tensor, "b t"]

    @property
    def phrases(self) -> Bool[Tensor, "b t"]:
        """Which nodes have two or more words."""
        return (self.ends[..., 0] < self.ends[..., 1]) & self.mask

    def gate(self) -> Float[Tensor, "b t 1"]:
        """Return ones whose gradient is that of each node's marginal probability: the straight-through estimate of a tree."""
        count = self.crf.scores.shape[1]
        cell = self.ends[..., 0] * count + self.ends[..., 1]
        probability = self.crf.marginals.flatten(1).gather(1, cell).masked_fill(~self.mask, 0.0)
        return (1.0 + probability - probability.detach()).unsqueeze(-1)


class SpanParser(nn.Module):
    """A conditional random field over binary trees of features (b n width), see ``TreeCRF``.

    The score of a node over words i to j is v · gelu(A x_i + B x_j + C mean(x_i .. x_j)).

    Args:
        width: of the features.
        hidden: of the scorer.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(width, hidden), nn.Linear(width, hidden, bias=False)
        self.inside, self.score = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, 1, bias=False)

    def forward(self, features: Features) -> Parsed:
        """Draw a tree of each example in training, and choose the best one in evaluation.

        Raises:
            PartArgumentError: an example without words.
        """
        crf = TreeCRF(self.scores(zero_padding(features)), features.mask)
        return self.parsed(crf, crf.sample(_gumbel) if self.training else crf.best())

    def parsed(self, crf: TreeCRF, chart: Bool[Tensor, "b n n"]) -> Parsed:
        """Return the trees of a chart with their log-probabilities."""
        ends, valid = post_order(chart)
        last = valid.sum(1, keepdim=True) - 1
        log_prob = crf.scores.new_zeros(valid.shape).scatter(1, last, crf.log_prob(chart)[:, None])
        return Parsed(crf, ends, valid, parents_of(chart), log_prob)

    def scores(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n n"]:
        """Return the score of each span; of no meaning where i > j."""
        inside = self.inside(x).cumsum(1)
        before = torch.cat([torch.zeros_like(inside[:, :1]), inside[:, :-1]], 1)
        place = torch.arange(x.shape[1], device=x.device)
        size = (place - place[:, None] + 1).clamp(min=1).unsqueeze(-1)
        mean = (inside.unsqueeze(1) - before.unsqueeze(2)) / size
        hidden = self.first(x).unsqueeze(2) + self.last(x).unsqueeze(1) + mean
        return self.score(nn.functional.gelu(hidden)).squeeze(-1)


def _gumbel(like: Tensor) -> Tensor:
    return -draw_noise(sample_exponential, like).log()
