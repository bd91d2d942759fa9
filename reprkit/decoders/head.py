"""The output layer of a decoder: a linear map to the parameters of a likelihood of the data."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reprkit.data.signature import Field
from reprkit.interfaces import require
from reprkit.layers.value_embedding import center_and_radius, count_symbols
from reprkit.models.likelihoods import mode, upcast_half
from reprkit.registry.constraints import Positive
from reprkit.types import Decoded
from reprkit.utils.precision import without_autocast

# A Gaussian's standard deviation: learned, predicted, or fixed.
Scale = Literal["shared", "each"] | Positive
FLOOR = -6.0  # lower bound of the log standard deviation, in units of half the data's range: a perfect fit must not divide by zero
GAIN = 5.0  # the shared log-scale changes this many times faster than a weight under Adam; 1 is too slow for a VAE at first
_ZERO = math.log(math.expm1(-FLOOR)) + FLOOR  # where ``_soft_floor`` is 0


def choose_likelihood(field: Field, likelihood: str | None) -> str:
    """Return the name of the likelihood: ``likelihood`` after a check, or by default the field's own.

    Raises:
        PartArgumentError: a likelihood that does not fit the field's values.
    """
    if likelihood is None:
        return field.likelihood
    if field.discrete or likelihood == "categorical":
        require(
            field.discrete and likelihood == "categorical",
            f"likelihood={likelihood!r} does not fit {field.kind} data, which holds "
            + ("symbols: use categorical" if field.discrete else "real values: use gaussian or bernoulli"),
        )
    in_unit_range = field.vocab == 2 or (
        field.range is not None and field.range[0] >= 0 and field.range[1] <= 1
    )
    require(
        likelihood != "bernoulli" or in_unit_range,
        f"likelihood='bernoulli' needs data within [0, 1], and the range of x is "
        f"{field.range or 'not stated'}: rescale it (and set range=(0, 1) in its signature), or use gaussian",
    )
    return likelihood


class Head(nn.Module):
    """Map vectors (b n width) to a likelihood of ``values`` data values a token (b n values).

    The Gaussian's mean is linear and unbounded; it is initialized near the middle of the data's range, with half the
    range as the standard deviation.  By default one standard deviation for all elements is learned, so that a
    Kullback-Leibler term of weight 1 is appropriate for data of any scale (sigma-VAE: Rybkin et al. 2021, arXiv
    2006.13202, section 3.2).

    Args:
        width: width of the vectors.
        values: number of data values of a token (p).
        field: the field of the data.
        likelihood: "gaussian", "bernoulli" or "categorical"; None takes the field's own.
        scale: standard deviation of a Gaussian: "shared" (one, learned), "each" (predicted for every element), or a
            fixed number in data units; 1.0 gives half the squared error and a constant.
        linear: the map from vectors (b n width) to one number a value (a symbol: to one a symbol), a module without a layer or
            with a ``weight``; None creates a linear map.

    Raises:
        PartArgumentError: a likelihood that does not fit the data, or a scale for a likelihood that has none.
        BuildError: symbols without a vocabulary.
    """

    def __init__(
        self,
        width: int,
        values: int,
        *,
        field: Field,
        likelihood: str | None = None,
        scale: str | float = "shared",
        linear: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.likelihood, self.scale = choose_likelihood(field, likelihood), scale
        require(
            self.likelihood == "gaussian" or scale == "shared",
            f"scale={scale!r} is the Gaussian's standard deviation, and the likelihood is {self.likelihood}",
        )
        self.symbols = count_symbols(field) - 1 if self.likelihood == "categorical" else 1
        self.center, self.radius = center_and_radius(field)
        created = nn.Linear(width, values * self.symbols) if linear is None else linear
        self.linear: nn.Linear = created  # type: ignore[assignment]  # or a module in its place, see ``linear``
        if self.likelihood == "gaussian" and scale == "shared":
            self.raw_scale = nn.Parameter(torch.zeros(1))  # (1) and not (): FSDP cannot shard scalars
        if self.likelihood == "gaussian" and scale == "each":
            self.log_scale = nn.Linear(width, values)
            nn.init.zeros_(self.log_scale.weight)
            nn.init.zeros_(self.log_scale.bias)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        *,
        mask: Bool[Tensor, "b n"] | None = None,
        grid: tuple[int, ...] | None = None,
    ) -> Decoded:
        """Return the likelihood at every token; ``mask`` and ``grid`` are copied to the result."""
        if self.likelihood == "categorical":
            logits = self.linear(x)
            params = {"logits": logits.view(*logits.shape[:-1], -1, self.symbols)}
        else:  # in full precision: a mean rounded to bfloat16 is off by more than a small standard deviation
            with without_autocast(x.device):
                weight = getattr(self.linear, "weight", None)
                x = upcast_half(x) if weight is None else x.to(weight.dtype)
                out = self.linear(x)
                params = {"logits": out} if self.likelihood == "bernoulli" else self._gaussian(x, out)
        return Decoded(
            x=mode(self.likelihood, params), likelihood=self.likelihood, params=params, mask=mask, grid=grid
        )

    def _gaussian(self, x: Tensor, out: Tensor) -> dict[str, Tensor]:
        if self.scale == "each":
            log_scale = _soft_floor(self.log_scale(x)) + math.log(self.radius)
        elif self.scale == "shared":
            log_scale = (_soft_floor(GAIN * self.raw_scale) + math.log(self.radius)).view(1, 1, 1)
        else:
            log_scale = out.new_full((1, 1, 1), math.log(float(self.scale)))
        return {"mean": self.center + self.radius * out, "log_scale": log_scale}


def _soft_floor(raw: Tensor) -> Tensor:
    """Bound ``raw`` below by FLOOR, smoothly and with 0 at 0 (Rybkin et al. 2021, appendix)."""
    return FLOOR + F.softplus(raw + _ZERO - FLOOR)
