"""The output layer of a decoder: linear maps to the parameters of a likelihood of the data."""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import Likelihood, require
from reprkit.likelihoods.location_scale import Scale
from reprkit.registry.create import create
from reprkit.registry.references import parse
from reprkit.types import Decoded
from reprkit.utils.precision import at_least_float32, without_autocast

__all__ = ["Head", "Scale", "choose_likelihood"]


def choose_likelihood(
    field: Field, likelihood: str | Likelihood | None = None, scale: str | float = "shared"
) -> Likelihood:
    """Create the likelihood of a field from a reference, by default the field's own; an instance is returned unchanged.

    Args:
        field: the field of the data.
        likelihood: a reference ("laplace(scale=0.5)") or an instance.
        scale: passed to the likelihood unless it is "shared", the default of all likelihoods that have one.

    Raises:
        PartArgumentError: a likelihood that does not fit the data, a scale for one that has none, or two scales.
        UnknownPartError: no such likelihood.
        BuildError: the instance is another kind of part.
    """
    if likelihood is None:
        likelihood = field.likelihood
    if isinstance(likelihood, str):
        reference = parse(likelihood)
        given: dict[str, Any] = {} if scale == "shared" else {"scale": scale}
        require(
            not given or "scale" not in reference.arguments,
            f"likelihood={likelihood!r} states its scale, and scale={scale!r} another: give one of them",
        )
        likelihood = create("likelihood", reference, data=Signature({"x": field}), **given)
    else:
        require(
            scale == "shared",
            f"likelihood= is an instance, so scale={scale!r} has no effect: give it to the likelihood",
        )
    if not isinstance(likelihood, Likelihood):
        raise BuildError(f"likelihood= takes a likelihood, and {type(likelihood).__name__} is none")
    return likelihood


class Head(nn.Module):
    """Map vectors (b n width) to a likelihood of ``values`` data values a token (b n values).

    It holds all weights of the likelihood: a linear map for each of its ``outputs``, and its learned ``constants``.

    Args:
        width: width of the vectors.
        values: number of data values of a token (p).
        field: the field of the data.
        likelihood: a reference or an instance; None takes the field's own.
        scale: scale of a density ("gaussian", "laplace"): "shared" (one, learned), "each" (predicted for every element), or a fixed
            number in data units; a Gaussian of 1.0 gives half the squared error and a constant.
        linear: the map from vectors (b n width) to one number a value (a symbol: to one a symbol), a module without a layer or
            with a ``weight``; None creates a linear map.

    Raises:
        PartArgumentError: a likelihood that does not fit the data, or a scale for a likelihood that has none.
        UnknownPartError: no such likelihood.
        BuildError: symbols without a vocabulary.
    """

    def __init__(
        self,
        width: int,
        values: int,
        *,
        field: Field,
        likelihood: str | Likelihood | None = None,
        scale: str | float = "shared",
        linear: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.likelihood = choose_likelihood(field, likelihood, scale)
        # The names of outputs and constants are keys of checkpoints: linear, raw_scale, log_scale.
        self.sizes = self.likelihood.outputs()
        require(
            linear is None or set(self.sizes) == {"linear"},
            f"likelihood={likelihood!r} needs a map for each of {', '.join(self.sizes)}, and this decoder has one map: use mlp",
        )
        created = nn.Linear(width, values * self.sizes["linear"]) if linear is None else linear
        self.linear: nn.Linear = created  # type: ignore[assignment]  # or a module in its place, see ``linear``
        for name, size in self.sizes.items():
            if name != "linear":
                layer = nn.Linear(width, values * size)
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
                self.add_module(name, layer)
        constants = self.likelihood.constants(values)
        for name, initial in constants.items():
            require(
                initial.ndim > 0,
                f"constant {name} of {type(self.likelihood).__name__} is a scalar, which FSDP cannot shard",
            )
            self.register_parameter(name, nn.Parameter(initial))
        self.constant_names = tuple(constants)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        *,
        mask: Bool[Tensor, "b n"] | None = None,
        grid: tuple[int, ...] | None = None,
    ) -> Decoded:
        """Return the likelihood at every token; ``mask`` and ``grid`` are copied to the result."""
        if self.likelihood.discrete:
            params = self._params(x)
        else:  # in full precision: a mean rounded to bfloat16 is off by more than a small standard deviation
            with without_autocast(x.device):
                weight = getattr(self.linear, "weight", None)
                params = self._params(at_least_float32(x) if weight is None else x.to(weight.dtype))
        return Decoded(likelihood=self.likelihood, params=params, mask=mask, grid=grid)

    def _params(self, x: Tensor) -> dict[str, Tensor]:
        outputs = {
            name: getattr(self, name)(x).unflatten(-1, (-1, size)) for name, size in self.sizes.items()
        }
        return self.likelihood.params(outputs, {name: getattr(self, name) for name in self.constant_names})
