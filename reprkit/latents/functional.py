"""What the latents share: checks of indices, sums over valid tokens, statistics over ranks, noise."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reprkit.errors import PartArgumentError
from reprkit.interfaces import require
from reprkit.types import Features
from reprkit.utils import collectives

Mask = Bool[Tensor, "b n"] | None


def zero_padding(features: Features) -> Float[Tensor, "b n d"]:
    """The features in float32, zero at padded tokens: whatever stood there, NaN included, reaches nothing."""
    x = features.x.float()
    return x if features.mask is None else x.masked_fill(~features.mask.unsqueeze(-1), 0.0)


def sum_per_token(values: Float[Tensor, "b n d"], mask: Mask) -> Float[Tensor, "b n"]:
    """The sum over a token's dimensions; zero where the token is padding."""
    summed = values.sum(-1)
    return summed if mask is None else summed.masked_fill(~mask, 0.0)


def sum_per_example(values: Float[Tensor, "b n d"], mask: Mask) -> Float[Tensor, " b"]:
    """The sum over an example's valid tokens and their dimensions."""
    return sum_per_token(values, mask).sum(1)


def fixed_rate_bits(features: Features, bits: float) -> Float[Tensor, " b"]:
    """The price of examples of which every valid token costs ``bits``."""
    x, mask = features.x, features.mask
    if mask is None:
        return torch.full(x.shape[:1], bits * x.shape[1], dtype=torch.float32, device=x.device)
    return mask.sum(1) * float(bits)


def token_statistics(
    values: Float[Tensor, "b n d"], mask: Mask, *, over_ranks: bool
) -> tuple[Float[Tensor, " d"], Float[Tensor, ""]]:
    """The mean over valid tokens (d), with gradient, and how many valid tokens an example has on average.

    Args:
        values: finite at padded tokens too.
        mask: True where a token is valid.
        over_ranks: over the joined batch of all ranks, the gradient reaching the rows of every rank.  All
            ranks must then call it, so latents ask for it in training only: in evaluation one rank may work
            alone.
    """
    b, n, _ = values.shape
    if mask is None:
        total, count = values.sum((0, 1)), values.new_tensor(b * n)
    else:
        total, count = (values * mask.unsqueeze(-1)).sum((0, 1)), mask.sum().to(values.dtype)
    row = torch.cat([total, torch.stack([count, values.new_tensor(b)])])
    if over_ranks:
        row = collectives.gather_with_gradient(row.unsqueeze(0)).sum(0)
    return row[:-2] / row[-2].clamp(min=1.0), row[-2] / row[-1].clamp(min=1.0)


@torch.no_grad()
def perplexity(
    indices: Int[Tensor, "b n q"], mask: Mask, entries: int, *, over_ranks: bool
) -> Float[Tensor, ""]:
    """How many entries of a slot the batch uses in effect: e to the entropy of its choices, mean over slots.

    Args:
        indices: what was chosen in each of q slots.
        mask: True where a token is valid.
        entries: how many entries each slot has; the perplexity lies between 1 and that.
        over_ranks: see ``token_statistics``.
    """
    b, n, q = indices.shape
    place = indices + torch.arange(q, device=indices.device) * entries
    weight = torch.ones(b, n, device=indices.device) if mask is None else mask.float()
    counts = torch.zeros(q * entries, device=indices.device)
    counts.index_add_(0, place.flatten(), weight.unsqueeze(-1).expand(b, n, q).flatten())
    if over_ranks:
        counts = collectives.sum_over_ranks(counts)
    shares = counts.view(q, entries) / (counts.sum() / q).clamp(min=1.0)
    return torch.special.entr(shares).sum(-1).exp().mean()


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of ``hard``, exactly, with the gradient of ``soft`` (Bengio et al. 2013, arXiv 1308.3432)."""
    return hard + (soft - soft.detach())


def draw_noise(draw: Callable[..., Tensor], like: Tensor) -> Tensor:
    """Float32 noise shaped like ``like``, this rank's rows of the draw for all: ``draw_noise(torch.rand, x)``."""
    return collectives.global_draw(lambda shape: draw(shape, device=like.device), tuple(like.shape))


def sample_exponential(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Draws from the exponential distribution of rate 1; minus their logarithm is Gumbel noise."""
    return torch.empty(shape, device=device).exponential_().clamp_(min=torch.finfo(torch.float32).tiny)


def check_indices(indices: Tensor, slots: int, entries: int) -> None:
    """Refuse indices that are not whole numbers of shape (b n slots) in [0, entries).

    Raises:
        PartArgumentError: says which of these fails.
    """
    if indices.ndim != 3 or indices.shape[-1] != slots:
        raise PartArgumentError(f"indices must be of shape (b, n, {slots}), not {tuple(indices.shape)}")
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise PartArgumentError(f"indices must be whole numbers (int64), not {indices.dtype}")
    if indices.numel():
        low, high = (int(edge) for edge in indices.aminmax())
        require(low >= 0 and high < entries, f"indices must lie in [0, {entries - 1}], not {low} to {high}")
