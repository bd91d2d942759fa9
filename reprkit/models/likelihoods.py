"""The likelihoods of a decoder's output: "gaussian", "bernoulli", "categorical", and their parameters.

==============  =====================================================  =================================
likelihood      parameters                                             target
==============  =====================================================  =================================
gaussian        ``mean``, ``log_scale`` (log standard deviation)       real (b n p)
bernoulli       ``logits``                                             0 to 1 (b n p)
categorical     ``logits`` (b n p k)                                   int64 symbols 0 to k - 1 (b n p)
==============  =====================================================  =================================

Parameters are broadcastable to (b n p): one scale for all elements has the shape (1 1 1).  All computations
are in float32 or higher precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reprkit.errors import PartArgumentError, nearest

LikelihoodName = Literal["gaussian", "bernoulli", "categorical"]
LIKELIHOODS: tuple[LikelihoodName, ...] = get_args(LikelihoodName)
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def check_name(name: str) -> None:
    """Raise PartArgumentError unless there is a likelihood of that name."""
    if name not in LIKELIHOODS:
        raise PartArgumentError(
            f"no likelihood named {name!r}.{nearest(str(name), LIKELIHOODS)}\n"
            f"  known: {', '.join(LIKELIHOODS)}"
        )


def negative_log_likelihood(
    name: str, params: Mapping[str, Tensor], target: Tensor
) -> Float[Tensor, "b n p"]:
    """Compute the negative log-likelihood of every element of ``target`` (b n p), in nats, constants included.

    For a gray value between 0 and 1, the Bernoulli likelihood gives the cross-entropy, as usual in the field.

    Raises:
        PartArgumentError: no such likelihood.
    """
    check_name(name)
    if name == "categorical":
        logits = upcast_half(params["logits"]).expand(*target.shape, -1)
        return F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none").view(target.shape)
    if name == "bernoulli":
        logits = upcast_half(params["logits"]).expand(target.shape)
        return F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    mean, log_scale = upcast_half(params["mean"]), upcast_half(params["log_scale"])
    return 0.5 * ((target - mean) * torch.exp(-log_scale)).square() + (log_scale + _HALF_LOG_TAU)


def discretized_nll(
    params: Mapping[str, Tensor], target: Tensor, span: tuple[float, float], levels: int
) -> Float[Tensor, "b n p"]:
    """Compute the negative log-probability, in nats, of each element's bin under a discretized Gaussian.

    ``levels`` values are spaced evenly over ``span``.  The bin of each ends half-way to its neighbors; the bins of the
    two extremes extend to infinity, so that the probabilities sum to 1 (Salimans et al. 2017, arXiv
    1701.05517, section 2.1, with a Gaussian for their logistic).
    """
    mean, log_scale = (params[name].double() for name in ("mean", "log_scale"))
    value = target.double()
    half = 0.5 * (span[1] - span[0]) / (levels - 1)
    rate = torch.exp(-log_scale)
    low = torch.where(value <= span[0] + half, -math.inf, (value - half - mean) * rate)
    high = torch.where(value >= span[1] - half, math.inf, (value + half - mean) * rate)
    # Mirror bins into the lower tail, which has the same mass: there the logarithms do not cancel.
    low, high = torch.where(low + high > 0, -high, low), torch.where(low + high > 0, -low, high)
    upper, lower = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return -(upper + torch.log1p(-torch.exp(lower - upper))).float()


def draw(name: str, params: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
    """Draw one sample (b n p): real values, 0.0 or 1.0, or int64 symbols; ``generator`` is on the parameters' device.

    Raises:
        PartArgumentError: no such likelihood.
    """
    check_name(name)
    if name == "gaussian":
        mean, log_scale = torch.broadcast_tensors(
            upcast_half(params["mean"]), upcast_half(params["log_scale"])
        )
        noise = torch.empty_like(mean, memory_format=torch.contiguous_format).normal_(generator=generator)
        return mean + noise * log_scale.exp()
    if name == "bernoulli":
        return torch.bernoulli(torch.sigmoid(upcast_half(params["logits"])), generator=generator)
    probs = torch.softmax(upcast_half(params["logits"]), -1)
    return torch.multinomial(probs.flatten(0, -2), 1, generator=generator).view(probs.shape[:-1])


def apply_temperature(name: str, params: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """Apply a temperature to the parameters: below 1, draws are closer to the most likely value; at 0, they equal it.

    A Gaussian's standard deviation is multiplied by the temperature; logits are divided by it.

    Raises:
        PartArgumentError: no such likelihood, or a temperature below 0.
    """
    check_name(name)
    if not 0 <= temperature < math.inf:
        raise PartArgumentError(f"temperature must be a finite number from 0, not {temperature!r}")
    if name == "gaussian":
        shift = math.log(temperature) if temperature else -math.inf
        return {"mean": params["mean"], "log_scale": params["log_scale"] + shift}
    logits = upcast_half(params["logits"])
    if temperature:
        return {"logits": logits / temperature}
    if name == "bernoulli":
        return {"logits": torch.where(logits > 0, math.inf, -math.inf).to(logits.dtype)}
    best = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, logits.argmax(-1, keepdim=True), True)
    return {"logits": torch.where(best, 0.0, -math.inf).to(logits.dtype)}


def filter_top_k_top_p(
    name: str, params: Mapping[str, Tensor], top_k: int | None = None, top_p: float | None = None
) -> dict[str, Tensor]:
    """Exclude unlikely symbols; the remaining ones keep their proportions.

    ``top_k`` keeps the k most likely (Fan et al. 2018, arXiv 1805.04833); ``top_p`` then keeps the smallest set of most likely
    symbols whose probability reaches p (nucleus sampling: Holtzman et al. 2020, arXiv 1904.09751).  Ties are broken by the
    order of the symbols.

    Raises:
        PartArgumentError: either is out of its range, or the likelihood is not of symbols.
    """
    check_name(name)
    if top_k is None and top_p is None:
        return dict(params)
    if name != "categorical":
        raise PartArgumentError(
            f"top_k and top_p apply to a categorical likelihood, and this one is {name}: use temperature"
        )
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
        raise PartArgumentError(f"top_k must be a whole number of symbols from 1, not {top_k!r}")
    if top_p is not None and not (isinstance(top_p, int | float) and 0 < top_p <= 1):
        raise PartArgumentError(f"top_p must be a probability above 0 and up to 1, not {top_p!r}")
    logits = upcast_half(params["logits"])
    order = logits.argsort(dim=-1, descending=True, stable=True)
    ranked = logits.gather(-1, order)
    excluded = torch.zeros_like(ranked, dtype=torch.bool)
    if top_k is not None:
        excluded[..., top_k:] = True
    if top_p is not None:
        probs = torch.softmax(ranked.masked_fill(excluded, -math.inf), -1)
        excluded |= probs.cumsum(-1) - probs >= top_p
        excluded[..., 0] = False  # rounding must not exclude all
    return {"logits": logits.masked_fill(excluded.gather(-1, order.argsort(-1)), -math.inf)}


def mode(name: str, params: Mapping[str, Tensor]) -> Tensor:
    """Return the point estimate (b n p) in data units: the mean, the probability of 1, or the most likely symbol.

    Raises:
        PartArgumentError: no such likelihood.
    """
    check_name(name)
    if name == "gaussian":
        return params["mean"]
    return torch.sigmoid(params["logits"]) if name == "bernoulli" else params["logits"].argmax(-1)


def upcast_half(value: Tensor) -> Tensor:
    """Convert half precision to float32; other values are returned as they are."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
