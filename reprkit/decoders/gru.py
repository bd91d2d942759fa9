"""Recurrent decoder of sequences."""

from __future__ import annotations

from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.decoders.sequence import SequenceDecoder
from reprkit.layers.recurrent import Recurrent


class GRUDecoder(SequenceDecoder):
    """Gated recurrent units from a code to frames, symbols or an image's rows (b n p) (Cho et al. 2014).

    Args:
        width: of the state, per direction.
        depth: how many layers.
        causal: a language model of the data, given the code if there is one: step t reads the target's token
            t - 1; False makes all steps at once, in both directions.
        likelihood: "gaussian", "bernoulli" or "categorical"; None takes the one that suits the data.
        scale: of a Gaussian: "shared" (one, learned), "each" (predicted), or a fixed standard deviation.
        data: the signature of what it makes, field ``x``.
        tokens: tokens of the code; None where that varies or there is no code.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: symbols without a vocabulary.
    """

    def __init__(
        self,
        width: int = 128,
        *,
        depth: int = 1,
        causal: bool = True,
        likelihood: str | None = None,
        scale: str | float = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        recurrent = Recurrent(width, depth=depth, causal=causal)
        super().__init__(
            width,
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
        """All steps at once: (b n width) to (b n out)."""
        return self.recurrent(x, mask)

    def memory(self, size: int, length: int) -> Tensor:
        """The state of every layer (layers b width)."""
        return self.recurrent.state(size)

    def run_step(self, x: Tensor, memory: Tensor, place: int, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """One step (b 1 width)."""
        return self.recurrent.step(x, memory, None if mask is None else mask[:, place])
