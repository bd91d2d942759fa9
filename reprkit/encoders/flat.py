"""Encoder without a layer of its own: the values of the whole example as one token."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Encoder
from reprkit.layers.dropout import Dropout
from reprkit.layers.field_checks import flat_size
from reprkit.layers.value_embedding import Rescale, count_symbols
from reprkit.registry.constraints import BelowOne
from reprkit.types import Batch, Features


class FlatEncoder(Encoder):
    """The flattened example as one token (b 1 p), without a layer: the core's linear adapter after it is the whole encoder.

    Images, vectors and sequences of fixed length are rescaled to [-1, 1] and flattened; symbols are one-hot at each position.
    With decoder ``flat`` it is the linear autoencoder (Baldi and Hornik 1989, Neural Networks 2), with decoder ``mirror`` the
    one with tied weights; a latent with an activation makes it an autoencoder with one hidden layer.

    Args:
        rescale: whether real values are rescaled; False reads them as they are.  Objective ``rbm`` learns images with a black (0)
            background faster so: a unit that is off has no share in the gradient of its weights.
        dropout: probability in [0, 1) of setting an element to zero in training (Hinton et al. 2012, arXiv 1207.0580), against
            overfitting where examples are few and elements many.
        data: the signature of the input, field ``x``.

    Raises:
        BuildError: the data's length varies.
    """

    provides = frozenset({"dense"})

    def __init__(self, *, rescale: bool = True, dropout: BelowOne = 0.0, data: Signature) -> None:
        super().__init__()
        self.field = data["x"]
        self.symbols = count_symbols(self.field) if self.field.discrete else 1
        self.out_dim = flat_size(self.field, "encoder flat") * self.symbols
        self.rescale = Rescale(self.field) if rescale and not self.field.discrete else nn.Identity()
        self.layers = nn.Sequential()
        self.dropout = Dropout(dropout)

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return one token (b 1 p).

        Raises:
            BuildError: ``keep`` was given; there is only one token.
        """
        if keep is not None:
            raise BuildError(
                "encoder flat reads an example as one token; to read only some, use vit, gru or transformer"
            )
        x = batch["x"]
        x = F.one_hot(x, self.symbols).float() if self.field.discrete else self.rescale(x)
        return Features(x=self.dropout(x.flatten(1)).unsqueeze(1), grid=self.grid(batch))

    def count(self, batch: Batch) -> int:
        """Return 1."""
        return 1

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return (1, 1) for an image or a map, else (1,)."""
        return (1, 1) if self.field.planar else (1,)
