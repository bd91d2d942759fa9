"""The binary tree-LSTM: the vector of each node of a tree from those of its children."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit.layers.trees import children


class TreeLSTM(nn.Module):
    """Compose words (b n d) bottom-up along binary trees (Tai, Socher and Manning 2015, arXiv 1503.00075, section 3.2).

    Args:
        width: of words and nodes (d).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.word = nn.Linear(width, 2 * width)
        self.gates = nn.Linear(2 * width, 5 * width)
        with torch.no_grad():
            self.gates.bias[width : 3 * width] = 1.0  # forget gates start open

    def leaf(self, word: Float[Tensor, "... d"]) -> tuple[Tensor, Tensor]:
        """Return output and memory of a word."""
        content, gate = self.word(word).chunk(2, -1)
        memory = content.tanh()
        return gate.sigmoid() * memory.tanh(), memory

    def join(self, left: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return output and memory of a node from those of its two children (... d)."""
        gates = self.gates(torch.cat([left[0], right[0]], -1))
        enter, keep_left, keep_right, content, leave = gates.chunk(5, -1)
        memory = (
            enter.sigmoid() * content.tanh() + keep_left.sigmoid() * left[1] + keep_right.sigmoid() * right[1]
        )
        return leave.sigmoid() * memory.tanh(), memory

    def forward(
        self,
        words: Float[Tensor, "b n d"],
        parents: Int[Tensor, "b t"],
        phrases: Bool[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        gate: Float[Tensor, "b t 1"] | None = None,
    ) -> Float[Tensor, "b t d"]:
        """Return the outputs of all nodes in post-order; zeros at padding.

        Nodes of one height are computed together, over all examples.

        Args:
            words: the vectors of the words.
            parents: the trees.
            phrases: which nodes have two children.
            mask: which nodes exist.
            gate: factors of the outputs and memories of the nodes.
        """
        outputs, memories = self.leaf(words)
        leaves = mask & ~phrases
        place = (leaves.long().cumsum(1) - 1).clamp(min=0).unsqueeze(-1).expand(-1, -1, words.shape[-1])
        valid = leaves.unsqueeze(-1)
        states = torch.cat([outputs.gather(1, place) * valid, memories.gather(1, place) * valid], -1)
        states = states if gate is None else states * gate
        below, heights = children(parents), _heights(parents, mask)
        for height in range(1, int(heights.max()) + 1):
            rows, nodes = (heights == height).nonzero(as_tuple=True)
            left, right = (states[rows, below[rows, nodes, side]].chunk(2, -1) for side in (0, 1))
            joined = torch.cat(self.join(left, right), -1)
            if gate is not None:
                joined = joined * gate[rows, nodes]
            states = states.index_put((rows, nodes), joined)
        return states.chunk(2, -1)[0]


def _heights(parents: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """Return the height of each node: 0 of words and padding, else one more than that of the highest child."""
    heights = torch.zeros_like(parents)
    slot = torch.where(parents < 0, parents.shape[1], parents)
    for _ in range(parents.shape[1] // 2):
        raised = torch.cat([heights, heights[:, :1]], 1) * 0
        raised = raised.scatter_reduce(1, slot, torch.where(mask, heights + 1, 0), "amax")[:, :-1]
        if torch.equal(raised, heights):
            break
        heights = raised
    return heights
