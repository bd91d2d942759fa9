"""Transformer encoder of sequences."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.interfaces import Encoder
from reprkit.layers.attention import Blocks
from reprkit.layers.positions import sinusoidal_positions
from reprkit.layers.sequence_input import SequenceInput
from reprkit.registry.constraints import BelowOne, Count, Depth, Width
from reprkit.types import Batch, Features


class TransformerEncoder(Encoder):
    """Pre-norm self-attention over frames, symbols or an image's rows (Vaswani et al. 2017, 1706.03762).

    One token a step, (b n width); a vector is a sequence of one.  Positions are sines and cosines, so
    sequences longer than those of training can be read.  Padding changes nothing.

    Args:
        width: of a token; ``heads`` must divide it.
        depth: how many blocks.
        heads: attention heads.
        causal: a step looks at itself and earlier ones only.
        dropout: probability in [0, 1) of dropping an element of a block's output.
        data: the signature of what it reads, field ``x``.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: symbols without a vocabulary.
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
        super().__init__()
        self.blocks = Blocks(width, depth=depth, heads=heads, causal=causal, dropout=dropout)
        self.reader = SequenceInput(data["x"], width)
        self.out_dim = width

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """The tokens (b n width); of ``keep`` those (b k width), with the positions that they had."""
        return self.reader.features(
            batch,
            keep,
            lambda x, mask, places: self.blocks(
                x + sinusoidal_positions(places, x.shape[-1]).to(x.dtype), mask
            ),
        )

    def count(self, batch: Batch) -> int:
        """How many steps an example has."""
        return self.reader.count(batch)

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """(rows, 1) for an image, (steps,) for a sequence, (1,) for a vector."""
        return self.reader.grid(batch)
