"""The last layer of a decoder: from its width to the parameters of a likelihood of the data."""

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
from reprkit.models.likelihoods import mode
from reprkit.registry.constraints import Positive
from reprkit.types import Decoded
from reprkit.utils.precision import without_autocast

# Of a Gaussian: learned, predicted, or a fixed standard deviation.
Scale = Literal["shared", "each"] | Positive
FLOOR = (
    -6.0
)  # least log standard deviation, in units of half the data's range: a perfect fit must not divide by zero
GAIN = 5.0  # how much faster than a weight the shared log-scale moves under Adam; 1 starves a VAE at first
_ZERO = math.log(math.expm1(-FLOOR)) + FLOOR  # where ``_soft_floor`` is 0


def choose_likelihood(field: Field, likelihood: str | None) -> str:
    """The likelihood of that name, or the one that suits the field.

    Raises:
        PartArgumentError: a likelihood that the field's values do not fit.
    """
    if likelihood is None:
        return field.likelihood
    if field.discrete or likelihood == "categorical":
        require(
            field.discrete and likelihood == "categorical",
            f"likelihood={likelihood!r} does not fit {field.kind} data, which holds "
            + ("symbols: use categorical" if field.discrete else "real values: use gaussian or bernoulli"),
        )
    inside = field.vocab == 2 or (field.range is not None and field.range[0] >= 0 and field.range[1] <= 1)
    require(
        likelihood != "bernoulli" or inside,
        f"likelihood='bernoulli' needs data within [0, 1], and the range of x is "
        f"{field.range or 'not stated'}: rescale it (and say range=(0, 1) in its signature), or use gaussian",
    )
    return likelihood


class Head(nn.Module):
    """Vectors (b n width) to a likelihood of ``values`` data values a token (b n values).

    The Gaussian's mean is linear and unbounded; both start in the middle of the range that the data promises,
    with half of it as the standard deviation.  One standard deviation for all elements is learned by default,
    so that a Kullback-Leibler term of weight 1 is right whatever the data's scale (sigma-VAE: Rybkin et al.
    2021, arXiv 2006.13202, section 3.2).

    Args:
        width: of the vectors.
        values: data values a token holds (p).
        field: of the data.
        likelihood: "gaussian", "bernoulli" or "categorical"; None takes the field's own.
        scale: of a Gaussian: "shared" (one, learned), "each" (predicted for every element), or a number: the
            fixed standard deviation in data units; 1.0 gives half the squared error and a constant.

    Raises:
        PartArgumentError: a likelihood that does not fit the data, or a scale of one that has none.
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
    ) -> None:
        super().__init__()
        self.likelihood, self.scale = choose_likelihood(field, likelihood), scale
        require(
            self.likelihood == "gaussian" or scale == "shared",
            f"scale={scale!r} is the Gaussian's standard deviation, and the likelihood is {self.likelihood}",
        )
        self.symbols = count_symbols(field) - 1 if self.likelihood == "categorical" else 1
        self.centre, self.radius = center_and_radius(field)
        self.linear = nn.Linear(width, values * self.symbols)
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
        """The likelihood at every token; ``mask`` and ``grid`` are passed on."""
        if self.likelihood == "categorical":
            logits = self.linear(x)
            params = {"logits": logits.view(*logits.shape[:-1], -1, self.symbols)}
        else:  # in full precision: a mean rounded to bfloat16 is off by more than a small standard deviation
            with without_autocast(x.device):
                x = x.to(self.linear.weight.dtype)
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
        return {"mean": self.centre + self.radius * out, "log_scale": log_scale}


def _soft_floor(raw: Tensor) -> Tensor:
    """``raw``, 0 at 0, bent so that it stays above FLOOR with a gradient (Rybkin et al. 2021, appendix)."""
    return FLOOR + F.softplus(raw + _ZERO - FLOOR)
