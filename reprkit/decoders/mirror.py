"""The encoder's linear maps transposed, in reversed order: an autoencoder with tied weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from reprkit.data.signature import Signature
from reprkit.decoders.head import Head
from reprkit.errors import BuildError
from reprkit.interfaces import Decoder, Likelihood, require
from reprkit.layers.dropout import Dropout
from reprkit.layers.field_checks import flat_size
from reprkit.layers.transposed import TransposedLinear
from reprkit.models.factor import masked_mean
from reprkit.registry.constraints import Positive
from reprkit.types import Decoded, Features

if TYPE_CHECKING:
    from reprkit.models.factor import Factor
    from reprkit.models.model import Model


class MirrorDecoder(Decoder):
    """The linear maps of an encoder that provides "dense" (flat, mlp), transposed and in reversed order; one token (b 1 p).

    ::

        x ──► W1 ──► f ──► adapter A ──► latent ──► z ──► A^T ──► f ──► W1^T ──► likelihood of x

    The weights are those of the encoder and of the core's adapter after it, not copies; biases are the decoder's own.  There is
    no other map between the code and the data, so with encoder ``flat``, latent ``continuous`` and a Gaussian likelihood it is
    the tied linear autoencoder, x̂ = W^T (W x + b) + c, whose rows of W become an orthonormal basis of the space of the first
    principal components, and whose biases take in the data's mean (Baldi and Hornik 1989, Neural Networks 2; Vincent et
    al. 2010, JMLR 11, section 2, "tied weights").  Dropout of the encoder is not repeated.

    Args:
        likelihood: a likelihood of real values, such as "laplace"; None takes the data's own.
        scale: scale of a density: "shared" (one, learned) or a fixed number; a Gaussian of 1.0 gives half the squared error.
        data: the signature of the output, field ``x``.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: symbols, or data whose length varies; when the model is built: several factors, an encoder that is not dense or
            reads another field, normalization in the encoder, or a code that is not as wide as the latent's input (gaussian).
    """

    needs_adapter = False

    def __init__(
        self,
        *,
        likelihood: str | Likelihood | None = None,
        scale: Literal["shared"] | Positive = "shared",
        data: Signature,
    ) -> None:
        super().__init__()
        self.field = data["x"]
        if self.field.discrete:
            raise BuildError(
                f"decoder mirror is for real values, and x is {self.field.kind} data: use flat, mlp or gru"
            )
        self.size = flat_size(self.field, "decoder mirror")
        self.layers = nn.Sequential()
        self.head = Head(
            self.size,
            self.size,
            field=self.field,
            likelihood=likelihood,
            scale=scale,
            linear=nn.Identity(),
        )
        require(
            self.head.sizes["linear"] == 1,
            f"decoder mirror has one number for each value, and likelihood={likelihood!r} needs more: use mlp",
        )

    def bind(self, model: Model) -> None:
        """Tie the maps to those of the encoder and its adapter."""
        output = next(output for output in model.outputs.values() if output.decoder is self)
        if len(output.reads) != 1:
            raise BuildError(
                f"decoder mirror mirrors one encoder, and reads {len(output.reads)} factors: "
                f"{', '.join(output.reads) or 'none'}"
            )
        factor = model.factors[output.reads[0]]
        if factor.input != output.field_name:
            raise BuildError(
                f"decoder mirror returns what the encoder reads, field {factor.input!r}, and the output is "
                f"{output.field_name!r}: use flat or mlp"
            )
        *maps, last = self._mirrored(factor)
        self.in_dim = factor.latent.out_dim
        self.layers = nn.Sequential(*maps)
        self.head.linear = last  # type: ignore[assignment]  # a TransposedLinear, which has the same attributes

    def _mirrored(self, factor: Factor) -> Sequence[nn.Module]:
        """Return the encoder's maps and functions, reversed: the last is the map to the data's values."""
        encoder, latent = factor.encoder, factor.latent
        title = encoder.qualified or type(encoder).__name__
        if "dense" not in encoder.provides:
            raise BuildError(
                f"decoder mirror transposes the linear maps of an encoder, and {title} does not consist of these: "
                "use encoder flat or mlp"
            )
        if latent.in_dim != latent.out_dim:
            raise BuildError(
                f"decoder mirror transposes the map before the latent, so the code must be as wide as the latent's input, and "
                f"{latent.qualified or type(latent).__name__} makes {latent.out_dim} of {latent.in_dim}: use decoder flat or mlp"
            )
        maps: list[nn.Module] = []
        layers: nn.Sequential = encoder.layers  # type: ignore[assignment]
        for layer in layers:
            if isinstance(layer, nn.Linear):
                maps.append(TransposedLinear(layer))
            elif next(layer.parameters(), None) is not None:
                raise BuildError(
                    f"decoder mirror cannot reverse {type(layer).__name__} of {title}: build the encoder without it (norm='none')"
                )
            elif not isinstance(layer, nn.Identity | Dropout | nn.Dropout):
                maps.append(copy.deepcopy(layer))
        maps.append(TransposedLinear(factor.adapter))
        return maps[::-1]

    def forward(
        self, features: Features | None, *, teacher: Tensor | None = None, length: int | None = None
    ) -> Decoded:
        """Return the likelihood of the example, one token (b 1 p); of a code with several tokens the mean is decoded."""
        if features is None:
            raise BuildError("decoder mirror needs a code, and there is none")
        code = masked_mean(features.x, features.mask).unsqueeze(1)
        return self.head(self.layers(code), grid=(1, 1) if self.field.planar else (1,))
