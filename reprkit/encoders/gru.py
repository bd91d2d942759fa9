"""Recurrent encoder of sequences."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.interfaces import Encoder
from reprkit.layers.recurrent import Recurrent
from reprkit.layers.sequence_input import SequenceInput
from reprkit.registry.constraints import Depth, Width
from reprkit.types import Batch, Features


class GRUEncoder(Encoder):
    """Gated recurrent units over frames, symbols, or an image's rows (Cho et al. 2014, arXiv 1406.1078).

    One token a step, (b n width), or (b n 2 * width) in both directions; a vector is a sequence of one.
    Padding has no effect.

    Args:
        width: width of the state, per direction.
        depth: number of layers.
        causal: forward only, so that a step depends on no later one; False reads in both directions.
        data: the signature of the input, field ``x``.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: symbols without a vocabulary.
    """

    provides = frozenset({"keep"})

    def __init__(self, width: Width = 128, *, depth: Depth = 1, causal: bool = True, data: Signature) -> None:
        super().__init__()
        self.recurrent = Recurrent(width, depth=depth, causal=causal)
        self.reader = SequenceInput(data["x"], width)
        self.out_dim = self.recurrent.out_dim

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return the states (b n out_dim); with ``keep`` (b k out_dim), computed in order of time, in the order of ``keep``."""
        return self.reader.features(batch, keep, lambda x, mask, positions: self.recurrent(x, mask))

    def count(self, batch: Batch) -> int:
        """Return the number of steps of an example."""
        return self.reader.count(batch)

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return (rows, 1) for an image, (steps,) for a sequence, (1,) for a vector."""
        return self.reader.grid(batch)
