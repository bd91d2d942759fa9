"""Fully connected decoder, with one token for the whole example."""

from __future__ import annotations

from typing import Annotated

from annotated_types import MinLen
from torch import Tensor, nn

from reprkit.data.signature import Signature
from reprkit.decoders.head import Head, Scale
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder, Likelihood
from reprkit.layers.dense import Activation, Norm, hidden_layers, hidden_widths
from reprkit.layers.field_checks import flat_size, require_token_count
from reprkit.layers.resample_tokens import zero_invalid_tokens
from reprkit.models.grid import align
from reprkit.registry.constraints import Depth, Width
from reprkit.types import Decoded, Features


class MLPDecoder(Decoder):
    """Fully connected layers over the concatenated tokens of the code; one token, the whole example (b 1 p).

    The adapter that the core puts before a decoder is the first hidden layer, so the decoder begins with an activation.
    Tokens that an encoder did not read are zeros.  ``encoder=mlp(widths=(1000, 500, 250))``,
    ``decoder=mlp(widths=(250, 500, 1000))`` is the deep autoencoder of Hinton and Salakhutdinov (2006).

    Args:
        width: width of every hidden layer.
        depth: number of hidden layers.
        widths: the width of each layer, instead of ``width`` and ``depth``.
        norm: "none", or "layer": LayerNorm before each activation.
        activation: "elu", "gelu", "relu", "sigmoid", "silu" or "tanh".
        likelihood: a likelihood of the data, such as "laplace"; None takes the data's own.
        scale: scale of a density such as a Gaussian: "shared" (one, learned), "each" (predicted), or a fixed number.
        data: the signature of the output, field ``x``.
        tokens: number of tokens of the code; with several, each has the width max(4, width // tokens).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the length of the data or of the code varies, or there is no code.
    """

    def __init__(
        self,
        width: Width = 256,
        *,
        depth: Depth = 2,
        widths: Annotated[tuple[Width, ...], MinLen(1)] | None = None,
        norm: Norm = "none",
        activation: Activation = "gelu",
        likelihood: str | Likelihood | None = None,
        scale: Scale = "shared",
        data: Signature,
        tokens: int | None = None,
    ) -> None:
        super().__init__()
        self.field = data["x"]
        size = flat_size(self.field, "decoder mlp")
        layers = hidden_widths(width, depth, widths)
        self.tokens = require_token_count(tokens, "decoder mlp")
        self.in_dim = layers[0] if self.tokens == 1 else max(4, layers[0] // self.tokens)
        first = self.in_dim * self.tokens
        layers = (first, *layers[1:])
        self.layers = hidden_layers(nn.Identity(), layers, norm_name=norm, activation_name=activation)
        self.head = Head(layers[-1], size, field=self.field, likelihood=likelihood, scale=scale)

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of the example, one token (b 1 p)."""
        if features is None:
            raise BuildError("decoder mlp needs a code, and there is none")
        code, _ = align(zero_invalid_tokens(features), self.tokens)
        return self.head(
            self.layers(code.flatten(1)).unsqueeze(1), grid=(1, 1) if self.field.planar else (1,)
        )
