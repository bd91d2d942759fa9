"""Fully connected encoder, with one token for the whole example."""

from __future__ import annotations

from typing import Annotated

from annotated_types import MinLen
from jaxtyping import Int
from torch import Tensor, nn

from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Encoder
from reprkit.layers.dense import Activation, Norm, OneHotLinear, hidden_layers, hidden_widths
from reprkit.layers.field_checks import flat_size
from reprkit.layers.value_embedding import Rescale, count_symbols
from reprkit.registry.constraints import BelowOne, Depth, Width
from reprkit.types import Batch, Features


class MLPEncoder(Encoder):
    """Fully connected layers over a flattened example; one token, (b 1 width).

    Images, vectors and sequences of fixed length are flattened; symbols are one-hot at each position.  The last
    layer ends in an activation.  The deep autoencoder's encoder (Hinton and Salakhutdinov 2006) is ``mlp(widths=(1000,
    500, 250))``.

    Args:
        width: width of every hidden layer.
        depth: number of hidden layers.
        widths: the width of each layer, instead of ``width`` and ``depth``.
        norm: "none", or "layer": LayerNorm before each activation.
        activation: "elu", "gelu", "relu", "sigmoid", "silu" or "tanh".
        dropout: probability in [0, 1) of dropping a hidden unit.
        data: the signature of the input, field ``x``.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data's length varies.
    """

    provides = frozenset({"dense"})

    def __init__(
        self,
        width: Width = 256,
        *,
        depth: Depth = 2,
        widths: Annotated[tuple[Width, ...], MinLen(1)] | None = None,
        norm: Norm = "none",
        activation: Activation = "gelu",
        dropout: BelowOne = 0.0,
        data: Signature,
    ) -> None:
        super().__init__()
        self.field = data["x"]
        size = flat_size(self.field, "encoder mlp")
        layers = hidden_widths(width, depth, widths)
        self.rescale = nn.Identity() if self.field.discrete else Rescale(self.field)
        first = (
            OneHotLinear(size, count_symbols(self.field), layers[0])
            if self.field.discrete
            else nn.Linear(size, layers[0])
        )
        self.layers = hidden_layers(
            first, layers, norm_name=norm, activation_name=activation, dropout=dropout
        )
        self.out_dim = layers[-1]

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return one token (b 1 width).

        Raises:
            BuildError: ``keep`` was given; there is only one token.
        """
        if keep is not None:
            raise BuildError(
                "encoder mlp reads an example as one token; to read only some, use vit, gru or transformer"
            )
        x = self.rescale(batch["x"]).flatten(1) if self.field.kind != "label" else batch["x"].unsqueeze(1)
        return Features(x=self.layers(x).unsqueeze(1), grid=self.grid(batch))

    def count(self, batch: Batch) -> int:
        """Return 1."""
        return 1

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return (1, 1) for an image or a map, else (1,)."""
        return (1, 1) if self.field.planar else (1,)
