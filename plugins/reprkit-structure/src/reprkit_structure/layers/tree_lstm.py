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

    def leaf(self, word: Float[Tensor, "... d"]) -> Float[Tensor, "... 2d"]:
        """Return output and memory of a word, side by side."""
        content, gate = self.word(word).chunk(2, -1)
        memory = content.tanh()
        return torch.cat([gate.sigmoid() * memory.tanh(), memory], -1)

    def join(self, left: Float[Tensor, "... 2d"], right: Float[Tensor, "... 2d"]) -> Float[Tensor, "... 2d"]:
        """Return output and memory of a node from those of its two children."""
        (one, left_memory), (two, right_memory) = left.chunk(2, -1), right.chunk(2, -1)
        enter, keep_left, keep_right, content, leave = self.gates(torch.cat([one, two], -1)).chunk(5, -1)
        kept = keep_left.sigmoid() * left_memory + keep_right.sigmoid() * right_memory
        memory = enter.sigmoid() * content.tanh() + kept
        return torch.cat([leave.sigmoid() * memory.tanh(), memory], -1)

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
        own, leaves = self.leaf(words), mask & ~phrases
        place = (leaves.long().cumsum(1) - 1).clamp(min=0).unsqueeze(-1).expand(-1, -1, own.shape[-1])
        states = own.gather(1, place) * leaves.unsqueeze(-1)
        states = states if gate is None else states * gate
        below, heights = children(parents), _heights(parents, mask)
        # At least once: also of a batch of single words ``gates`` has a gradient, of zeros, as data-parallel training requires.
        for height in range(1, max(int(heights.max()), 1) + 1):
            rows, nodes = (heights == height).nonzero(as_tuple=True)
            left, right = (states[rows, below[rows, nodes, side]] for side in (0, 1))
            joined = self.join(left, right)
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
