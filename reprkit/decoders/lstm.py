"""Recurrent decoder of sequences, with memory cells."""

from __future__ import annotations

from reprkit.data.signature import Signature
from reprkit.decoders.head import Scale
from reprkit.decoders.recurrent import RecurrentDecoder
from reprkit.models.likelihoods import LikelihoodName
from reprkit.registry.constraints import BelowOne, Depth, Width


class LSTMDecoder(RecurrentDecoder):
    """Long short-term memory from a code to frames, symbols or an image's rows (b n p).

    Hochreiter and Schmidhuber 1997, with forget gates (Gers et al. 2000) that start open; the network of Karpathy 2015, "The
    unreasonable effectiveness of recurrent neural networks".

    Args:
        width: of the state, per direction.
        depth: how many layers.
        causal: a language model of the data, given the code if there is one: step t reads the target's token
            t - 1; False makes all steps at once, in both directions.
        dropout: probability in [0, 1) of dropping an element of what goes into the layers and of what comes out.
        embedding: width of what the cells read, the code and the token before; None: ``width``.  A narrow one costs
            symbols nothing and leaves out up to half of the first layer's products.
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
        width: Width = 128,
        *,
        depth: Depth = 1,
        causal: bool = True,
        dropout: BelowOne = 0.0,
        embedding: Width | None = None,
        likelihood: LikelihoodName | None = None,
        scale: Scale = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        super().__init__(
            "lstm",
            width,
            depth=depth,
            causal=causal,
            dropout=dropout,
            embedding=embedding,
            likelihood=likelihood,
            scale=scale,
            data=data,
            tokens=tokens,
        )
