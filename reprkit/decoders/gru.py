"""Recurrent decoder of sequences."""

from __future__ import annotations

from reprkit.decoders.recurrent import RecurrentDecoder


class GRUDecoder(RecurrentDecoder):
    """Gated recurrent units from a code to frames, symbols or an image's rows (b n p) (Cho et al. 2014).

    Args:
        width: width of the state, per direction.
        depth: number of layers.
        causal: an autoregressive model of the data, given the code if there is one: step t reads the target's token
            t - 1; False decodes all steps at once, in both directions.
        dropout: probability in [0, 1) of dropping an element of the layers' input and output.
        embedding: width of the cells' input, the code and the previous token; None: ``width``.  A narrow one loses
            nothing for symbols and saves up to half of the first layer's products.
        likelihood: a likelihood of the data, such as "laplace"; None takes the data's own.
        scale: scale of a density such as a Gaussian: "shared" (one, learned), "each" (predicted), or a fixed number.
        data: the signature of the output, field ``x``.
        tokens: number of tokens of the code; None where it varies or there is no code.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: symbols without a vocabulary.
    """

    cell = "gru"
