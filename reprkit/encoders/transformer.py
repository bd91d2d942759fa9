"""Transformer encoder of sequences."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.interfaces import Encoder
from reprkit.layers.attention import Blocks
from reprkit.layers.field_checks import check_attention
from reprkit.layers.positions import sinusoidal_positions
from reprkit.layers.sequence_input import SequenceInput
from reprkit.registry.constraints import BelowOne, Count, Depth, Width
from reprkit.types import Batch, Features


class TransformerEncoder(Encoder):
    """Pre-norm self-attention over frames, symbols or an image's rows (Vaswani et al. 2017, 1706.03762).

    One token a step, (b n width); a vector is a sequence of one.  Positions are sinusoidal, so sequences longer
    than those of training can be read.  Padding has no effect.

    Args:
        width: width of a token; ``heads`` must divide it.
        depth: number of blocks.
        heads: number of attention heads.
        causal: a step attends to itself and earlier ones only.
        dropout: probability in [0, 1) of dropping an element of a block's output.
        data: the signature of the input, field ``x``.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: symbols without a vocabulary, or more steps than attention is practical for.
    """

    provides = frozenset({"keep"})

    def __init__(
        self,
        width: Width = 128,
        *,
        depth: Depth = 4,
        heads: Count = 4,
        causal: bool = False,
        dropout: BelowOne = 0.0,
        data: Signature,
    ) -> None:
        check_attention(int(data["x"].shape[0] or 0) if data["x"].shape else 0, "encoder transformer")
        super().__init__()
        self.blocks = Blocks(width, depth=depth, heads=heads, causal=causal, dropout=dropout)
        self.reader = SequenceInput(data["x"], width)
        self.out_dim = width

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the tokens (b n width); with ``keep`` only those (b k width), at their original positions."""
        return self.reader.features(
            batch,
            keep,
            lambda x, mask, positions: self.blocks(
                x + sinusoidal_positions(positions, x.shape[-1]).to(x.dtype), mask
            ),
        )

    def count(self, batch: Batch) -> int:
        """Return the number of steps of an example."""
        return self.reader.count(batch)

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return (rows, 1) for an image, (steps,) for a sequence, (1,) for a vector."""
        return self.reader.grid(batch)
