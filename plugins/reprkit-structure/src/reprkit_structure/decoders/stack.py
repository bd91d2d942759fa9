"""A generator that builds the tree while it writes: a recurrent neural network grammar."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit import Decoded, Decoder, Features, Signature
from reprkit.decoders.head import Head
from reprkit.errors import BuildError
from reprkit.models.factor import masked_mean
from reprkit.registry.constraints import Width
from reprkit_structure.layers.shift_reduce import Program, program_of
from reprkit_structure.layers.tree_lstm import TreeLSTM


class Stack(Decoder):
    """Write a sentence word by word on a stack, along the binary tree of the code (Dyer et al. 2016, arXiv 1602.07776).

    ::

        shift:   push the tree-LSTM leaf of the next word
        reduce:  replace the two nodes on top by their tree-LSTM node
        an LSTM reads the stack from the bottom up; its state at the top predicts the next word, and the next action

    It is the unlabeled generator of Kim et al. 2019 (arXiv 1904.03746, section 2.2).  The likelihood of a word is given the words
    before it and the tree so far; ``Decoded.code_nll`` is -log p(tree | words so far), the cost of all actions where both are
    possible, given the number of words: reductions after the last word are certain.  A code without a tree is read as right
    branching, which costs nothing, and its tokens' mean is an input of every step, as with a tree.  A tree over another number of
    words than the data continues to the right, or is cut there.

    Args:
        width: of words, nodes and states.
        data: the signature of the output, tokens in field ``x``.

    Raises:
        BuildError: the data is not tokens.
    """

    provides = frozenset({"causal", "tree"})

    def __init__(self, *, width: Width = 128, data: Signature) -> None:
        super().__init__()
        field = self.field = data["x"]
        if field.kind != "tokens" or field.vocab is None:
            raise BuildError(
                f"decoder stack writes sentences of symbols, and the data is {field.kind}: use it with tokens"
            )
        self.in_dim = self.width = width
        self.words = nn.Embedding(field.vocab + 1, width)  # and one for a word that is not known
        self.compose, self.cell = TreeLSTM(width), nn.LSTMCell(2 * width, width)
        self.bottom = nn.Parameter(torch.zeros(2 * width))
        self.head, self.action = Head(width, 1, field=field, likelihood=None), nn.Linear(width, 1)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of each word given the tree and the words before it.

        Args:
            features: the code (b m width), with or without ``parents``; None: right branching, and no input.
            teacher: the sentence (b n 1); None: all words are unknown.
            length: number of words, where neither the teacher nor the data determines it.

        Raises:
            BuildError: neither code nor teacher.
        """
        if teacher is not None:
            size, count = teacher.shape[:2]
        elif features is not None:
            known = length or self.field.shape[0] or features.length
            size, count = len(features.x), known or features.x.shape[1]
        else:
            raise BuildError(
                "decoder stack needs a code or a teacher (the sentence, of which it reads the words before each)"
            )
        program, context = self._program(features, size, count)
        words = self._unknown(size, count) if teacher is None else teacher.squeeze(-1)
        states = self._run(program, self.compose.leaf(self.words(words)), context)
        before = _rows(states, program.place)[
            ..., : self.width
        ]  # at the top of the stack when the word is written
        decoded = self.head(before, grid=(count,))
        nats = self._tree_nats(program, states)
        if features is None or features.parents is None:
            return replace(
                decoded, code_nll=0.0 * nats
            )  # not left out, so that every parameter has a gradient
        mask = torch.arange(count, device=context.device) < program.words[:, None]
        return replace(decoded, mask=mask, code_nll=nats)

    def _tree_nats(self, program: Program, states: Float[Tensor, "b t e"]) -> Float[Tensor, " b"]:
        logits = self.action(states[:, : program.left.shape[1], : self.width]).squeeze(-1).float()
        nats = F.binary_cross_entropy_with_logits(logits, program.is_phrase.float(), reduction="none")
        return (nats * program.choices()).sum(1)

    def _program(
        self, features: Features | None, size: int, count: int
    ) -> tuple[Program, Float[Tensor, "b d"]]:
        device = self.bottom.device
        program = program_of(features, size, count, device)
        if features is None:
            return program, self.bottom.new_zeros(size, self.width)
        return program, masked_mean(features.x, features.mask)

    def _unknown(self, size: int, count: int) -> Int[Tensor, "b n"]:
        return torch.full((size, count), self.words.num_embeddings - 1, device=self.bottom.device)

    def _run(
        self, program: Program, leaves: Float[Tensor, "b n 2d"], context: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b t+1 2d"]:
        """Return the state of the stack's LSTM before each token, and after the last: output and memory of its top."""
        rows = torch.arange(len(context), device=context.device)
        phrase_rows = [each.nonzero().squeeze(1) for each in program.is_phrase.unbind(1)]
        word = (~program.is_phrase).long().cumsum(1) - 1
        nodes: list[Tensor] = []
        # Plus 0: ``gates`` get a gradient of zeros where no sentence has a phrase, since data-parallel training requires one.
        bottom = self.bottom + self.compose.join(leaves[:0], leaves[:0]).sum()
        states = [bottom.to(context.dtype).expand(len(context), -1)]
        for step, joined in enumerate(phrase_rows):
            node = leaves[rows, word[:, step]]
            if len(joined):
                left = torch.stack(nodes)[program.left[joined, step], joined]
                right = nodes[-1][joined]
                made = self.compose.join(left, right)
                node = node.index_put((joined,), made)
            nodes.append(node)
            # Token k has state k + 1, and the bottom of the stack state 0.
            below = torch.stack(states)[program.below[:, step] + 1, rows] if len(joined) else states[-1]
            states.append(self._push(node, below, context))
        return torch.stack(states, 1)

    def _push(self, node: Tensor, below: Tensor, context: Tensor) -> Tensor:
        output, memory = below.chunk(2, -1)
        seen = torch.cat([node[..., : self.width], context], -1)
        return torch.cat(self.cell(seen, (output.contiguous(), memory.contiguous())), -1)

    @torch.no_grad()
    def start(self, features: Features | None, *, size: int, length: int) -> _Stack:
        """Return the empty stack; no gradients here and in ``step``."""
        program, context = self._program(features, size, length)
        bottom = self.bottom.to(context.dtype).expand(size, 1, -1)
        return _Stack(
            program.reduces, context, bottom.repeat(1, length + 1, 1), bottom.repeat(1, length + 1, 1), 0
        )

    @torch.no_grad()
    def step(self, previous: Tensor | None, state: Any) -> tuple[Decoded, _Stack]:
        """Return the likelihood of the next word (b 1 1) given the ``previous`` one (b 1 1; None at the first), and the stack.

        Raises:
            BuildError: all words of ``start`` are written.
        """
        if state.written >= state.reduces.shape[1] + (previous is None):
            raise BuildError(
                f"all {state.reduces.shape[1]} words are written: start(length=) sets their number"
            )
        if previous is not None:
            state = self._write(previous[:, 0, 0], state)
        rows = torch.arange(len(state.context), device=state.context.device)
        top = state.states[rows, state.depth]
        return self.head(top[:, None, : self.width], grid=(1,)), state

    def _write(self, word: Int[Tensor, " b"], stack: _Stack) -> _Stack:
        """Push a word, and do the reductions after it."""
        nodes, states, depth = stack.nodes.clone(), stack.states.clone(), stack.depth
        rows = torch.arange(len(word), device=word.device)
        leaf = self.compose.leaf(self.words(word)).to(nodes.dtype)
        pending, node = stack.reduces[:, stack.written], leaf
        depth = depth + 1
        nodes[rows, depth] = node
        states[rows, depth] = self._push(node, states[rows, depth - 1], stack.context)
        while bool((pending > 0).any()):
            joined = (pending > 0).nonzero().squeeze(1)
            depth = depth - (pending > 0).long()
            at = depth[joined]
            left, right = nodes[joined, at], nodes[joined, at + 1]
            made = self.compose.join(left, right)
            nodes[joined, at] = made
            states[joined, at] = self._push(made, states[joined, at - 1], stack.context[joined])
            pending = pending - (pending > 0).long()
        return replace(stack, nodes=nodes, states=states, written=stack.written + 1)


@dataclass(frozen=True)
class _Stack:
    """The stack while a sentence is written.

    Attributes:
        reduces: reductions after each word (b n).
        context: mean of the code (b d).
        nodes: output and memory of the nodes, from the bottom, which is row 0 (b n+1 2d).
        states: output and memory of the LSTM that reads them (b n+1 2d).
        written: number of words.
    """

    reduces: Int[Tensor, "b n"]
    context: Float[Tensor, "b d"]
    nodes: Float[Tensor, "b n+1 2d"]
    states: Float[Tensor, "b n+1 2d"]
    written: int

    @property
    def depth(self) -> Int[Tensor, " b"]:
        """Number of nodes on the stack."""
        return self.written - self.reduces[:, : self.written].sum(1)


def _rows(values: Float[Tensor, "b t e"], index: Int[Tensor, "b n"]) -> Float[Tensor, "b n e"]:
    return values.gather(1, index.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
