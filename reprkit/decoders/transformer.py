"""Transformer decoder of sequences."""

from __future__ import annotations

from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.decoders.head import Scale
from reprkit.decoders.sequence import SequenceDecoder
from reprkit.interfaces import Likelihood
from reprkit.layers.attention import Blocks
from reprkit.layers.field_checks import check_attention
from reprkit.registry.constraints import BelowOne, Count, Depth, Width


class TransformerDecoder(SequenceDecoder):
    """Self-attention from a code to frames, symbols or an image's rows (b n p) (Vaswani et al. 2017).

    The code is added to the steps' inputs, so there is no cross-attention.  Positions are sinusoidal, so sequences
    longer than those of training can be generated.  ``start`` and ``step`` use a key-value cache, so a step computes
    one token.

    Args:
        width: width of a token; ``heads`` must divide it.
        depth: number of blocks.
        heads: number of attention heads.
        causal: an autoregressive model of the data, given the code if there is one: step t reads the target's tokens
            before t; False decodes all steps at once.
        dropout: probability in [0, 1) of dropping an element of a block's output.
        likelihood: a likelihood of the data, such as "laplace"; None takes the data's own.
        scale: scale of a density such as a Gaussian: "shared" (one, learned), "each" (predicted), or a fixed number.
        data: the signature of the output, field ``x``.
        tokens: number of tokens of the code; None where it varies or there is no code.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: symbols without a vocabulary, or more steps than attention is practical for.
    """

    def __init__(
        self,
        width: Width = 128,
        *,
        depth: Depth = 2,
        heads: Count = 4,
        causal: bool = False,
        dropout: BelowOne = 0.0,
        likelihood: str | Likelihood | None = None,
        scale: Scale = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        check_attention(int(data["x"].shape[0] or 0) if data["x"].shape else 0, "decoder transformer")
        blocks = Blocks(width, depth=depth, heads=heads, causal=causal, dropout=dropout)
        super().__init__(
            width,
            width,
            causal=causal,
            positions=True,
            likelihood=likelihood,
            scale=scale,
            data=data,
            tokens=tokens,
        )
        self.blocks = blocks

    def run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Process all steps at once: (b n width) to (b n width)."""
        return self.blocks(x, mask)

    def memory(self, size: int, length: int) -> tuple[Tensor, Tensor]:
        """Return the caches for keys and values of every block, each (depth b h length d)."""
        return self.blocks.caches(size, length)

    def run_step(
        self,
        previous: Tensor | None,
        context: Tensor | None,
        memory: tuple[Tensor, Tensor],
        position: int,
        mask: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Compute one step (b 1 width); writes to the caches in place."""
        x = self.values.start(memory[0].shape[1]) if previous is None else self.values(previous)
        return self.blocks.step(x if context is None else x + context, *memory, position, mask), memory
