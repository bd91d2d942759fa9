"""Pointer-generator: generates symbols, or copies those that the code's tokens stand for."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit import Signature
from reprkit.interfaces import require
from reprkit.layers.field_checks import check_heads
from reprkit.layers.recurrent import Recurrent
from reprkit.registry.constraints import BelowOne, Count, Depth, DepthOrZero, Width
from reprkit_text.decoders.cross_attention import CrossAttentionDecoder
from reprkit_text.decoders.transformers_cross_attention import table_sizes
from reprkit_text.generator import Generator, Memory


class PointerDecoder(CrossAttentionDecoder):
    """A recurrent network (or a causal transformer) with attention to the code and copying from it.

    The hybrid pointer network of See et al. 2017 (arXiv 1704.04368, eq. 9), with which Wang and Lee 2018 (arXiv 1810.02851)
    reconstruct a document from its summary.  The code is read in both directions first, so that the symbol after a copied one
    can be found; the symbol that a token stands for is predicted from the token itself, so that any latent is decoded::

        code (b m width) + linear of a bidirectional GRU over it ──► memory of ``reprkit_text.generator.Generator``

    Args:
        width: width of the code's tokens, embeddings and states.
        kind: network that reads the symbols so far, "gru" or "transformer".
        depth: number of its layers.
        reader: number of layers of the GRU that reads the code; 0 for none.
        heads: attention heads of a transformer; they must divide ``width``.
        copy: whether symbols may be copied from the code.
        follow: whether attention is drawn to the token after the one that was just copied; needs ``copy``.
        dropout: dropout rate of the transformer's blocks and of the attended state, in [0, 1).
        forget: probability that an earlier symbol is replaced by the unknown one while training, in [0, 1): word dropout (Bowman
            et al. 2016, arXiv 1511.06349, section 3.1), so that symbols are read from the code and not guessed from those before.
        data: signature of the data to decode, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not tokens.
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
        follow: bool = False,
        dropout: BelowOne = 0.0,
        forget: BelowOne = 0.0,
        data: Signature,
    ) -> None:
        super().__init__()
        if kind == "transformer":
            check_heads(heads, width)
        require(copy or not follow, "follow=True is about copied symbols: it needs copy=True")
        self.blank, _ = table_sizes(data["x"], self.title, None)
        sizes: dict[str, Any] = {"kind": kind, "depth": depth, "heads": heads, "dropout": dropout}
        self.generator = Generator(self.blank, width, copy=copy, follow=follow, blank=True, **sizes)
        self.reader = Recurrent(width, depth=reader, causal=False) if reader else None
        self.joined = nn.Linear(2 * width, width) if reader else None
        self.forget = forget
        self._set_up(width, data["x"])

    def _read_code(self, memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None) -> Memory:
        """Prepare the code for the generator; its tokens are read in order."""
        if self.reader is not None and self.joined is not None:
            memory = memory + self.joined(self.reader(memory, mask))
            memory = memory if mask is None else memory * mask.unsqueeze(-1).to(memory.dtype)
        return self.generator.memory(memory, mask)

    def write(
        self, previous: Int[Tensor, "b n"], memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None
    ) -> Float[Tensor, "b n+1 v"]:
        """Return log-probabilities of each symbol, given those before it."""
        return self.generator.all_steps(F.pad(previous, (0, 1)), self._read_code(memory, mask))

    def begin(
        self, memory: Float[Tensor, "b m d"], mask: Bool[Tensor, "b m"] | None, length: int
    ) -> dict[str, Any]:
        """Return the prepared code, and the state of the network that reads the symbols so far."""
        return {
            "memory": self._read_code(memory, mask),
            "trunk": self.generator.begin(len(memory), length),
        }

    def advance(
        self, previous: Int[Tensor, " b"] | None, state: dict[str, Any]
    ) -> tuple[Float[Tensor, "b 1 v"], dict[str, Any]]:
        """Return log-probabilities of the next symbol."""
        log_p, trunk = self.generator.one_step(previous, state["trunk"], state["position"], state["memory"])
        return log_p.unsqueeze(1), {"trunk": trunk}
