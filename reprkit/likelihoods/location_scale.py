"""Base class of the densities with a mean and a scale, and what the likelihoods share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reprkit.data.signature import Signature
from reprkit.interfaces import Likelihood, require
from reprkit.layers.value_embedding import element_scales
from reprkit.registry.constraints import Positive
from reprkit.utils.precision import at_least_float32

# The scale of a density: learned, predicted, or fixed.
Scale = Literal["shared", "each"] | Positive
FLOOR = (
    -6.0
)  # lower bound of the log-scale, in units of half the data's range: a perfect fit must not divide by zero
GAIN = 5.0  # the shared log-scale changes this many times faster than a weight under Adam; 1 is too slow for a VAE at first
_ZERO = math.log(math.expm1(-FLOOR)) + FLOOR  # where ``soft_floor`` is 0


def soft_floor(raw: Tensor) -> Tensor:
    """Bound ``raw`` below by FLOOR, smoothly and with 0 at 0 (Rybkin et al. 2021, appendix)."""
    return FLOOR + F.softplus(raw + _ZERO - FLOOR)


def require_real(data: Signature | None, name: str) -> None:
    """Raise PartArgumentError where field ``x`` holds symbols."""
    field = None if data is None else data["x"]
    require(
        field is None or not field.discrete,
        f"likelihood={name!r} does not fit {field and field.kind} data, which holds symbols: use categorical",
    )


class LocationScale(Likelihood):
    """A density of (target - mean) / scale; a subclass sets ``name`` and implements the standard one, of mean 0 and scale 1.

    The mean is linear and unbounded; it is initialized near the middle of the data's range, with half the range as the scale.
    """

    name: str
    center: Tensor
    radius: Tensor
    log_radius: Tensor
    density = True
    added_state = frozenset({"center", "radius", "log_radius"})

    def __init__(self, scale: Scale = "shared", *, data: Signature | None = None) -> None:
        super().__init__()
        require_real(data, self.name)
        self.scale = scale
        center, radius = (torch.zeros(1), torch.ones(1)) if data is None else element_scales(data["x"])
        # In the units of the data: of one element, or of every element of a table's row or of a frame.
        self.register_buffer("center", center, persistent=False)
        self.register_buffer("radius", radius, persistent=False)
        self.register_buffer("log_radius", radius.double().log().float(), persistent=False)

    def standard_nll(self, value: Tensor) -> Tensor:
        """Return the negative log-density of the standard distribution."""
        raise NotImplementedError

    def standard_sample(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw from the standard distribution, in the shape of ``like``."""
        raise NotImplementedError

    def standard_log_mass(self, low: Tensor, high: Tensor) -> Tensor:
        """Return the log-probability of an interval of the standard distribution whose middle is not above 0."""
        raise NotImplementedError

    def outputs(self) -> dict[str, int]:
        """The mean, and with ``scale="each"`` the log-scale."""
        return {"linear": 1, "log_scale": 1} if self.scale == "each" else {"linear": 1}

    def constants(self, values: int) -> dict[str, Tensor]:
        """The shared log-scale, divided by GAIN."""
        return {"raw_scale": torch.zeros(1)} if self.scale == "shared" else {}

    def params(self, outputs: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``mean`` (b n p) and ``log_scale`` (b n p), (1 1 1) or, for a table, (1 1 p), in data units."""
        out = outputs["linear"].squeeze(-1)
        center, radius, log_radius = (
            # A token of several frames has the scale of each channel once for every frame.
            each if len(each) in (1, out.shape[-1]) else each.repeat(out.shape[-1] // len(each))
            for each in (self.center, self.radius, self.log_radius)
        )
        if self.scale == "each":
            log_scale = soft_floor(outputs["log_scale"].squeeze(-1)) + log_radius
        elif self.scale == "shared":
            raw = GAIN * constants["raw_scale"]
            log_scale = (soft_floor(raw) + log_radius).view(1, 1, -1)
        else:
            log_scale = out.new_full((1, 1, 1), math.log(float(self.scale)))
        return {"mean": center + radius * out, "log_scale": log_scale}

    def nll(self, params: Mapping[str, Tensor], target: Tensor) -> Float[Tensor, "b n p"]:
        """Return the negative log-density."""
        mean, log_scale = at_least_float32(params["mean"]), at_least_float32(params["log_scale"])
        return self.standard_nll((target - mean) * torch.exp(-log_scale)) + log_scale

    def point(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return the mean."""
        return params["mean"]

    def sample(self, params: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Draw real values."""
        mean, log_scale = torch.broadcast_tensors(
            at_least_float32(params["mean"]), at_least_float32(params["log_scale"])
        )
        return mean + self.standard_sample(mean, generator) * log_scale.exp()

    def temper(self, params: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
        """Multiply the scale by the temperature."""
        shift = math.log(temperature) if temperature else -math.inf
        return {**params, "log_scale": params["log_scale"] + shift}

    def log_mass(self, params: Mapping[str, Tensor], low: Tensor, high: Tensor) -> Float[Tensor, "b n p"]:
        """Return the log-probability of an interval; computed in double precision."""
        mean, rate = params["mean"].double(), torch.exp(-params["log_scale"].double())
        low, high = (low.double() - mean) * rate, (high.double() - mean) * rate
        # Intervals are mirrored into the lower tail, which has the same mass: there the logarithms do not cancel.
        low, high = torch.where(low + high > 0, -high, low), torch.where(low + high > 0, -low, high)
        return self.standard_log_mass(low, high).float()
