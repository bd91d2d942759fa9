"""A tree as the code: nothing but which words form phrases passes."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit import Code, Features
from reprkit.latents.functional import check_indices, zero_padding
from reprkit.latents.variational import Variational
from reprkit.registry.constraints import CountOrZero, NonNegative, Width
from reprkit_structure.layers.parser import Parsed, SpanParser
from reprkit_structure.layers.tree_crf import TreeCRF


class TreeLatent(Variational):
    """The binary tree of a sentence as its code: 2n - 1 tokens in post-order, each "shift" (a word) or "reduce" (a phrase).

    ::

        features (b n width) ──► scores of spans ──► p(tree), a conditional random field
        in training a tree is drawn, in evaluation the best one taken
        z (b 2n-1 dim): the learned vector of "shift" or "reduce";  Code.parents: the tree

    The words do not pass: a decoder that reads the code knows their number and the tree.  It is the inference network of Kim et
    al. 2019 (arXiv 1904.03746, section 2.3), which they train by policy gradient: ``objective="policy"`` uses ``log_prob``, that
    of the tree, at its root.  With ``gradient="straight-through"`` the vector of each phrase also has the gradient of its marginal
    probability.

    Loss and metric "kl", nats an example, exact: with ``prior="uniform"`` the KL from the uniform distribution over all binary
    trees.  With "decoder" the decoder has the prior, as ``stack`` has: its cost of the tree is in the reconstruction, and what is
    left of the KL is minus the entropy; reconstruction and "kl" together are the negative evidence lower bound (eq. 4).
    Metric "entropy": of the tree.  ``Code.bits``: log2 of the number of trees.

    Args:
        dim: width of the code.
        width: of the features.
        hidden: of the span scorer.
        gradient: "straight-through", or "none", where only ``log_prob`` and "kl" train the parser.
        prior: see above.
        beta: weight of loss "kl".
        warmup: optimizer steps over which loss "kl" grows from 0 to its full size.
    """

    provides = frozenset({"tree", "log_prob", "given_trees"})  # given_trees: has ``code_of``
    collapse_floor = 0.0  # both symbols are always in use

    def __init__(
        self,
        dim: Width = 32,
        *,
        width: Width = 64,
        hidden: Width = 64,
        gradient: Literal["straight-through", "none"] = "straight-through",
        prior: Literal["uniform", "decoder"] = "uniform",
        beta: NonNegative = 1.0,
        warmup: CountOrZero = 0,
    ) -> None:
        super().__init__(in_dim=width, out_dim=dim, vocab=(2,), beta=beta, warmup=warmup)
        self.parser, self.gradient, self.prior_of = SpanParser(width, hidden), gradient, prior
        self.actions = nn.Parameter(torch.randn(2, dim))

    def count(self, tokens: int) -> int:
        """Return the number of nodes of a binary tree over so many words."""
        return 2 * tokens - 1

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n width)."""
        return self._code(self.parser(features))

    def code_of(self, features: Features, chart: Bool[Tensor, "b n n"]) -> Code:
        """Return the code of given trees, with their log-probability under the parser; charts of ``layers.charts``."""
        crf = TreeCRF(self.parser.scores(zero_padding(features)), features.mask)
        return self._code(self.parser.parsed(crf, chart))

    def _code(self, parsed: Parsed) -> Code:
        indices = parsed.phrases.long().unsqueeze(-1)
        z = self.embed(indices)
        if self.training and self.gradient == "straight-through":
            z = z * parsed.gate()
        uniform = parsed.crf.kl_from_uniform
        kl = uniform if self.prior_of == "uniform" else -parsed.crf.entropy
        nats = uniform + parsed.crf.entropy
        return Code(
            z=z,
            indices=indices,
            log_prob=parsed.log_prob,
            bits=nats.detach() / math.log(2),
            losses={"kl": self.apply_warmup(kl.mean())},
            metrics={"kl": kl.mean().detach(), "entropy": parsed.crf.entropy.mean().detach()},
            mask=parsed.mask,
            grid=(),
            parents=parsed.parents,
        )

    def embed(self, indices: Int[Tensor, "b t 1"]) -> Float[Tensor, "b t d"]:
        """Return the vectors of "shift" (0) and "reduce" (1).

        Raises:
            PartArgumentError: indices have another shape, or lie outside of [0, 2).
        """
        check_indices(indices, 1, 2)
        return self.actions[indices.squeeze(-1).long()]
