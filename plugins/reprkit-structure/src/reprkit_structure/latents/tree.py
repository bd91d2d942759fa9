"""A tree as the code: nothing but which words form phrases passes."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit import Code, Features
from reprkit.latents.functional import check_indices
from reprkit.latents.variational import Variational
from reprkit.registry.constraints import CountOrZero, NonNegative, Width
from reprkit_structure.layers.parser import SpanParser


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

    Loss and metric "kl": KL from the uniform distribution over all binary trees, nats an example, exact.  Metric "entropy": of the
    tree.  ``Code.bits``: log2 of the number of trees.

    Args:
        dim: width of the code.
        width: of the features.
        hidden: of the span scorer.
        gradient: "straight-through", or "none", where only ``log_prob`` and "kl" train the parser.
        beta: weight of loss "kl".
        warmup: optimizer steps over which loss "kl" grows from 0 to its full size.
    """

    provides = frozenset({"tree", "log_prob"})
    collapse_floor = 0.0  # both symbols are always in use

    def __init__(
        self,
        dim: Width = 32,
        *,
        width: Width = 64,
        hidden: Width = 64,
        gradient: Literal["straight-through", "none"] = "straight-through",
        beta: NonNegative = 1.0,
        warmup: CountOrZero = 0,
    ) -> None:
        super().__init__(in_dim=width, out_dim=dim, vocab=(2,), beta=beta, warmup=warmup)
        self.parser, self.gradient = SpanParser(width, hidden), gradient
        self.actions = nn.Parameter(torch.randn(2, dim))

    def count(self, tokens: int) -> int:
        """Return the number of nodes of a binary tree over so many words."""
        return 2 * tokens - 1

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n width)."""
        parsed = self.parser(features)
        indices = parsed.phrases.long().unsqueeze(-1)
        z = self.embed(indices)
        if self.training and self.gradient == "straight-through":
            z = z * parsed.gate()
        kl = parsed.crf.kl_from_uniform
        nats = kl + parsed.crf.entropy
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
