"""Functions that the latents share: masked sums, statistics over ranks, noise, straight-through, index checks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit.errors import PartArgumentError
from reprkit.interfaces import require
from reprkit.types import Features
from reprkit.utils import collectives
from reprkit.utils.precision import at_least_float32

Mask = Bool[Tensor, "b n"] | None


def zero_padding(features: Features) -> Float[Tensor, "b n d"]:
    """Return the features in float32, or in float64, with zeros at padded tokens.

    No value at a padded token, not even NaN, has an effect.
    """
    x = at_least_float32(features.x)
    return x if features.mask is None else x.masked_fill(~features.mask.unsqueeze(-1), 0.0)


def sum_per_token(values: Float[Tensor, "b n d"], mask: Mask) -> Float[Tensor, "b n"]:
    """Sum over a token's dimensions; zero where the token is padding."""
    total = values.sum(-1)
    return total if mask is None else total.masked_fill(~mask, 0.0)


def sum_per_example(values: Float[Tensor, "b n d"], mask: Mask) -> Float[Tensor, " b"]:
    """Sum over an example's valid tokens and their dimensions."""
    return sum_per_token(values, mask).sum(1)


def fixed_rate_bits(features: Features, bits: float) -> Float[Tensor, " b"]:
    """Return the bits of each example when every valid token costs ``bits``."""
    x, mask = features.x, features.mask
    if mask is None:
        return torch.full(x.shape[:1], bits * x.shape[1], dtype=torch.float32, device=x.device)
    return mask.sum(1) * float(bits)


def token_statistics(
    values: Float[Tensor, "b n d"], mask: Mask, *, over_ranks: bool
) -> tuple[Float[Tensor, " d"], Float[Tensor, ""]]:
    """Return the mean over valid tokens (d), with gradient, and the mean number of valid tokens per example.

    Args:
        values: the values to average; finite at padded tokens too.
        mask: True where a token is valid.
        over_ranks: average over the joined batch of all ranks, with gradients to the rows of every rank.  All
            ranks must then call it, so latents set it in training only: in evaluation a single rank may run.
    """
    b, n, _ = values.shape
    if mask is None:
        total, count = values.sum((0, 1)), values.new_full((), b * n)
    else:
        total, count = (values * mask.unsqueeze(-1)).sum((0, 1)), mask.sum().to(values.dtype)
    row = torch.cat([total, torch.stack([count, values.new_full((), b)])])
    if over_ranks:
        row = collectives.gather_with_gradient(row.unsqueeze(0)).sum(0)
    return row[:-2] / row[-2].clamp(min=1.0), row[-2] / row[-1].clamp(min=1.0)


@torch.no_grad()
def perplexity(
    indices: Int[Tensor, "b n q"], mask: Mask, entries: int, *, over_ranks: bool
) -> Float[Tensor, ""]:
    """Return the effective number of entries used: exp of the entropy of the index frequencies, mean over slots.

    Args:
        indices: the index chosen in each of q slots.
        mask: True where a token is valid.
        entries: number of entries of each slot; the perplexity lies in [1, ``entries``].
        over_ranks: see ``token_statistics``.
    """
    b, n, q = indices.shape
    bins = indices + torch.arange(q, device=indices.device) * entries
    weight = torch.ones(b, n, device=indices.device) if mask is None else mask.float()
    counts = torch.zeros(q * entries, device=indices.device)
    counts.index_add_(0, bins.flatten(), weight.unsqueeze(-1).expand(b, n, q).flatten())
    if over_ranks:
        counts = collectives.sum_over_ranks(counts)
    shares = counts.view(q, entries) / (counts.sum() / q).clamp(min=1.0)
    return torch.special.entr(shares).sum(-1).exp().mean()


def entropy_terms(shares: Tensor) -> Tensor:
    """Return -p log p of each share, nats, with a finite gradient where a share is exactly zero."""
    return torch.special.entr(shares.clamp(min=torch.finfo(torch.float32).tiny))


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Return exactly the value of ``hard`` with the gradient of ``soft`` (Bengio et al. 2013, arXiv 1308.3432)."""
    return hard + (soft - soft.detach())


def draw_noise(draw: Callable[..., Tensor], like: Tensor) -> Tensor:
    """Draw float32 noise of the shape of ``like``: this rank's rows of the global draw, ``draw_noise(torch.rand, x)``."""
    return collectives.global_draw(lambda shape: draw(shape, device=like.device), tuple(like.shape))


def round_codes(y: Tensor, limit: int, *, noise: bool) -> tuple[Tensor, Tensor]:
    """Return codes to train on, and rounded ones: whole numbers within ±``limit``, both with the gradient of ``y``.

    With ``noise`` the former have uniform noise in ±1/2 in place of rounding (Ballé et al. 2018, arXiv 1802.01436, section 2); they
    are the rounded ones without it.
    """
    y = straight_through(y.detach().clamp(-limit, limit), y)  # codes beyond the limit find back
    rounded = straight_through(y.round(), y)
    return (y + draw_noise(torch.rand, y) - 0.5 if noise else rounded), rounded


def sample_exponential(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Sample from the exponential distribution of rate 1; minus the logarithm of it is Gumbel noise."""
    return torch.empty(shape, device=device).exponential_().clamp_(min=torch.finfo(torch.float32).tiny)


def check_indices(indices: Tensor, slots: int, entries: int) -> None:
    """Check that indices are integers of shape (b n slots) in [0, entries).

    Raises:
        PartArgumentError: they are not; the message names the condition that fails.
    """
    if indices.ndim != 3 or indices.shape[-1] != slots:
        raise PartArgumentError(f"indices must be of shape (b, n, {slots}), not {tuple(indices.shape)}")
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise PartArgumentError(f"indices must be whole numbers (int64), not {indices.dtype}")
    if indices.numel():
        low, high = (int(edge) for edge in indices.aminmax())
        require(low >= 0 and high < entries, f"indices must lie in [0, {entries - 1}], not {low} to {high}")
