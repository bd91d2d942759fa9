"""How much of a latent is in use, the same name for every latent, and one clear warning when it collapses."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from reprkit import distributed
from reprkit.interfaces import Latent
from reprkit.types import Code

WINDOW = 200  # optimiser steps over which an entry counts as in use
FLOOR = 0.1  # usage under which a whole window is called a collapse


class CollapseWarning(UserWarning):
    """A latent uses hardly any of its codes, bits or dimensions."""


class Usage(nn.Module):
    """Share of codes, bits or dimensions in use over the last ``window`` steps and over all ranks, in [0, 1].

    Codes: entries chosen at least once (mean over slots).  Bits (slots of two entries): slots that took both values.
    Dimensions: those whose variance over the data is above the latent's ``active_variance`` (Burda et al. 2016, section 4.2, for
    the Gaussian's 0.01).
    """

    seen: Tensor
    offsets: Tensor
    moments: Tensor
    fresh: Tensor

    def __init__(self, latent: Latent, name: str, window: int = WINDOW, floor: float = FLOOR) -> None:
        super().__init__()
        self.name, self.window, self.floor = name, window, floor
        self.vocab, self.active_variance = latent.vocab, latent.active_variance
        self.step, self.warned = 0, False
        entries = sum(self.vocab) if self.vocab else 0
        offsets = torch.tensor([0, *(self.vocab or ())][:-1] or [0]).cumsum(0)
        # The step at which each entry was last chosen: O(entries) memory whatever the window, and exact.
        self.register_buffer("seen", torch.full((entries,), -window, dtype=torch.int64), persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        # Count, sum and sum of squares of each dimension, forgetting over the window.
        width = 0 if self.vocab else latent.out_dim
        self.register_buffer("moments", torch.zeros(3, width, dtype=torch.float64), persistent=False)
        self.register_buffer("fresh", torch.zeros(3, width, dtype=torch.float64), persistent=False)

    @torch.no_grad()
    def see(self, code: Code) -> None:
        """Take one training view into account."""
        if self.vocab:
            assert code.indices is not None
            indices = code.indices if code.mask is None else code.indices[code.mask]
            self.seen[(indices + self.offsets).flatten()] = self.step
        else:
            z = code.z if code.mean is None else code.mean
            flat = (z.flatten(0, 1) if code.mask is None else z[code.mask]).double()
            self.fresh += torch.stack([flat.new_full(flat.shape[1:], len(flat)), flat.sum(0), flat.square().sum(0)])

    @torch.no_grad()
    def update(self) -> None:
        """Close an optimiser step on all ranks, and warn once when a whole window stayed under the floor."""
        if self.vocab:
            self.seen.copy_(distributed.max_over_ranks(self.seen))
        else:
            self.moments.mul_(1 - 1 / self.window).add_(distributed.sum_over_ranks(self.fresh))
            self.fresh.zero_()
        self.step += 1
        if self.step % self.window == 0 and not self.warned:
            value = float(self.value())
            if value < self.floor:
                self.warned = True
                warnings.warn(_advice(self.name, value, self.window, bool(self.vocab)), CollapseWarning, stacklevel=2)

    @torch.no_grad()
    def value(self) -> Tensor:
        """The share in use now: a scalar tensor, no synchronisation with the device."""
        if self.vocab:
            used = self.seen > self.step - self.window
            shares = [
                part.float().mean() if len(part) > 2 else part.all().float() for part in used.split(list(self.vocab))
            ]
            return torch.stack(shares).mean()
        count, total, squares = self.moments + self.fresh
        variance = squares / count.clamp(min=1) - (total / count.clamp(min=1)).square()
        floor = variance.max() * 0.01 if self.active_variance is None else self.active_variance
        return (variance > torch.clamp(torch.as_tensor(floor, device=variance.device), min=1e-12)).float().mean()


def _advice(name: str, value: float, window: int, discrete: bool) -> str:
    what = "codes" if discrete else "dimensions"
    tries = (
        "fewer codes, a lower learning rate, dead-code revival (revive=), cosine=True, or a larger weight on its losses"
        if discrete
        else "a smaller beta or sparsity weight, free bits (free_bits=), fewer dimensions, or a weaker decoder"
    )
    return f"{name} has collapsed: {value:.0%} of its {what} in use over the last {window} steps. Try {tries}."
