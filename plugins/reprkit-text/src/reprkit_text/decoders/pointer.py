"""Pointer-generator: writes symbols one by one, or copies those that the code's tokens stand for."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit import Signature
from reprkit.layers.field_checks import check_heads
from reprkit.layers.recurrent import Recurrent
from reprkit.registry.constraints import BelowOne, Count, Depth, DepthOrZero, Width
from reprkit_text.decoders.cross_attention import Looking
from reprkit_text.decoders.transformers_cross_attention import rows
from reprkit_text.generator import Generator, Memory


class PointerDecoder(Looking):
    """A recurrent network (or a causal transformer) that looks at the code by attention, and may copy from it.

    The hybrid pointer network of See et al. 2017 (arXiv 1704.04368, eq. 9), with which Wang and Lee 2018 (arXiv 1810.02851)
    tell a document from its summary.  The code is read in both directions first, so that what comes after a symbol that was
    copied can be found; which symbol a token stands for is told by the token itself, so that it decodes any latent::

        code (b m width) + linear of a GRU in both directions over it ──► what ``reprkit_text.generator.Generator`` looks at

    Args:
        width: of the code's tokens, embeddings and states.
        kind: "gru" or "transformer": what reads the symbols so far.
        depth: its layers.
        reader: layers of the GRU that reads the code; 0 leaves it out.
        heads: attention heads of a transformer; they must divide ``width``.
        copy: whether symbols may be copied from the code.
        dropout: of the transformer's blocks and of the attended state, in [0, 1).
        data: the signature of what it makes, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: data that is no tokens.
    """

    title = "decoder pointer"

    def __init__(
        self,
        width: Width = 128,
        *,
        kind: Literal["gru", "transformer"] = "gru",
        depth: Depth = 1,
        reader: DepthOrZero = 1,
        heads: Count = 4,
        copy: bool = True,
        dropout: BelowOne = 0.0,
        data: Signature,
    ) -> None:
        super().__init__()
        if kind == "transformer":
            check_heads(heads, width)
        self.blank, _ = rows(data["x"], self.title, None)
        self.generator = Generator(
            self.blank, width, kind=kind, depth=depth, heads=heads, copy=copy, dropout=dropout, blank=True
        )
        self.reader = Recurrent(width, depth=reader, causal=False) if reader else None
        self.joined = nn.Linear(2 * width, width) if reader else None
        self.ready(width, data["x"])

    def seen(self, memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None) -> Memory:
        """What the code tells, its tokens read in their order."""
        if self.reader is not None and self.joined is not None:
            memory = memory + self.joined(self.reader(memory, mask))
            memory = memory if mask is None else memory * mask.unsqueeze(-1).to(memory.dtype)
        return self.generator.memory(memory, mask)

    def write(
        self, told: Int[Tensor, "b n"], memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None
    ) -> Float[Tensor, "b n+1 v"]:
        """Log-probabilities of each symbol, given those before it."""
        return self.generator.all_steps(F.pad(told, (0, 1)), self.seen(memory, mask))

    def begin(
        self, memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None, length: int
    ) -> dict[str, Any]:
        """What the code says, and the state of what reads the symbols so far."""
        return {
            "seen": self.seen(memory, mask),
            "trunk": self.generator.begin(len(memory), length),
        }

    def on(
        self, previous: Int[Tensor, " b"] | None, state: dict[str, Any]
    ) -> tuple[Float[Tensor, "b 1 v"], dict[str, Any]]:
        """Log-probabilities of the next symbol."""
        log_p, trunk = self.generator.one_step(previous, state["trunk"], state["place"], state["seen"])
        return log_p.unsqueeze(1), {"trunk": trunk}
