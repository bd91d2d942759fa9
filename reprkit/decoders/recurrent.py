"""Base class of the recurrent decoders ``gru`` and ``lstm``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.decoders.head import Scale
from reprkit.decoders.sequence import SequenceDecoder
from reprkit.interfaces import Likelihood
from reprkit.kernels.recurrent_step import advance, initial_state, pack_weights
from reprkit.layers.recurrent import Recurrent
from reprkit.registry.constraints import BelowOne, Depth, Width


class RecurrentDecoder(SequenceDecoder):
    """A recurrent network over the steps; ``start`` packs the weights once, ``step`` uses the kernel ``recurrent_step``.

    A subclass sets ``cell`` and describes the arguments, which are the same for every cell.
    """

    cell: ClassVar[Literal["gru", "lstm"]]

    def __init__(
        self,
        width: Width = 128,
        *,
        depth: Depth = 1,
        causal: bool = True,
        dropout: BelowOne = 0.0,
        embedding: Width | None = None,
        likelihood: str | Likelihood | None = None,
        scale: Scale = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        recurrent = Recurrent(
            width, depth=depth, causal=causal, cell=self.cell, dropout=dropout, embedding=embedding
        )
        super().__init__(
            recurrent.in_dim,
            recurrent.out_dim,
            causal=causal,
            positions=False,
            likelihood=likelihood,
            scale=scale,
            data=data,
            tokens=tokens,
        )
        self.recurrent = recurrent

    def run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Process all steps at once: (b n in) to (b n out)."""
        return self.recurrent(x, mask)

    def memory(self, size: int, length: int) -> dict[str, Any]:
        """Return the packed weights, and the state of every layer (b width)."""
        net = self.recurrent.net
        return {"pack": pack_weights(net, self.values, size), "state": initial_state(net, size)}

    def run_step(
        self,
        previous: Tensor | None,
        context: Tensor | None,
        memory: dict[str, Any],
        position: int,
        mask: Tensor | None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """Compute one step (b 1 out)."""
        pack, state = memory["pack"], memory["state"]
        valid = None if mask is None else mask[:, position]
        vector = None if context is None else context[:, 0]
        out, state = advance(pack, self.values, previous, state, vector, valid)
        return out.unsqueeze(1), {"pack": pack, "state": state}
