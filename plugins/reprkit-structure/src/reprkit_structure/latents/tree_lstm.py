"""A tree with the vectors of its phrases as the code."""

from __future__ import annotations

from typing import Literal

import torch

from reprkit import Code, Features
from reprkit.latents.functional import zero_padding
from reprkit.latents.variational import Variational
from reprkit.registry.constraints import CountOrZero, NonNegative, Width
from reprkit_structure.layers.parser import SpanParser
from reprkit_structure.layers.tree_lstm import TreeLSTM


class TreeLSTMLatent(Variational):
    """A binary tree over the tokens, and vectors composed along it: 2n - 1 tokens in post-order, of words and phrases.

    ::

        features (b n width) ──► p(tree), a tree: drawn in training, the best one in evaluation
        z (b 2n-1 width): the words, and of each phrase the tree-LSTM of its two parts;  Code.parents: the tree

    The composition is that of Tai et al. 2015 (arXiv 1503.00075), the tree as in latent ``tree`` (Yogatama et al. 2017, arXiv
    1611.09100, learn trees for compositions by policy gradient).  The output of each node also has the gradient of its marginal
    probability, so the parser learns from what the decoder needs; ``objective="policy"`` uses ``log_prob`` as well.  With
    ``keep="root"`` the code is the root alone, one token without a tree: a sentence vector.

    Loss and metric "kl": KL of the tree from the uniform distribution over binary trees, nats an example.

    Args:
        width: of features and code.
        hidden: of the span scorer.
        keep: "nodes", all of them, or "root".
        beta: weight of loss "kl".
        warmup: optimizer steps over which loss "kl" grows from 0 to its full size.
    """

    def __init__(
        self,
        width: Width = 64,
        *,
        hidden: Width = 64,
        keep: Literal["nodes", "root"] = "nodes",
        beta: NonNegative = 1.0,
        warmup: CountOrZero = 0,
    ) -> None:
        super().__init__(in_dim=width, out_dim=width, beta=beta, warmup=warmup)
        self.parser, self.compose, self.keep = SpanParser(width, hidden), TreeLSTM(width), keep
        self.provides = frozenset({"tree", "log_prob"} if keep == "nodes" else {"log_prob"})

    def count(self, tokens: int) -> int:
        """Return the number of nodes of a binary tree over so many words, or 1."""
        return 2 * tokens - 1 if self.keep == "nodes" else 1

    def forward(self, features: Features) -> Code:
        """Return the code of features (b n width)."""
        parsed = self.parser(features)
        gate = parsed.gate() if self.training else None
        z = self.compose(zero_padding(features), parsed.parents, parsed.phrases, parsed.mask, gate)
        kl = parsed.crf.kl_from_uniform.mean()
        losses = {"kl": self.apply_warmup(kl)}
        metrics = {"kl": kl.detach(), "entropy": parsed.crf.entropy.mean().detach()}
        log_prob = parsed.log_prob
        if self.keep == "root":
            root = parsed.mask.sum(1) - 1
            rows = torch.arange(len(z), device=z.device)
            mask = None if features.mask is None else torch.ones_like(features.mask[:, :1])
            root_z, total = z[rows, root][:, None], log_prob.sum(1, keepdim=True)
            return Code(z=root_z, log_prob=total, losses=losses, metrics=metrics, mask=mask, grid=(1,))
        return Code(
            z=z,
            log_prob=log_prob,
            losses=losses,
            metrics=metrics,
            mask=parsed.mask,
            grid=(),
            parents=parsed.parents,
        )
