"""How much of a latent is in use, the same name for every latent, and one clear warning when it collapses."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit import distributed
from reprkit.interfaces import Latent
from reprkit.types import Code

WINDOW = 200  # optimiser steps over which an entry counts as in use
FLOOR = 0.1  # usage under which a whole window is called a collapse
PARTS = 8  # pieces of a window whose moments are kept apart: the oldest is forgotten whole


class CollapseWarning(UserWarning):
    """A latent uses hardly any of its codes, bits or dimensions."""


class Usage(nn.Module):
    """Share of codes, bits or dimensions in use over the last ``window`` steps and over all ranks, in [0, 1].

    Codes: entries chosen at least once (mean over slots).  Bits (slots of two entries): slots that took
    both values.  Dimensions: those whose variance over the data is above the latent's ``active_variance``
    (Burda et al. 2016, arXiv 1509.00519, for the Gaussian's 0.01).

    Args:
        latent: whose codes it will see.
        name: how the warning calls it.
        window: optimiser steps.
        floor: usage under which, at the end of a window, it warns; once.
    """

    seen: Tensor
    offsets: Tensor
    slot: Tensor
    sizes: Tensor
    moments: Tensor
    fresh: Tensor

    def __init__(self, latent: Latent, name: str, window: int = WINDOW, floor: float = FLOOR) -> None:
        super().__init__()
        self.name, self.window, self.floor = name, window, floor
        self.vocab, self.active_variance, self.remedy = latent.vocab, latent.active_variance, latent.remedy
        self.step, self.warned = 0, False
        sizes = torch.tensor(self.vocab or (), dtype=torch.int64)
        width = 0 if self.vocab else latent.out_dim
        # The step at which each entry was last chosen: O(entries) memory whatever the window, and exact.
        # The last place takes what padded tokens chose.
        self._buffer("seen", torch.full((int(sizes.sum()) + 1,), -window, dtype=torch.int64))
        self._buffer("offsets", sizes.cumsum(0) - sizes)
        self._buffer("slot", torch.arange(len(sizes)).repeat_interleave(sizes))
        self._buffer("sizes", sizes)
        # Count, mean and sum of squared deviations of each dimension: of the window by parts, and of the
        # open step.
        self._buffer("moments", torch.zeros(PARTS, 3, width))
        self._buffer("fresh", torch.zeros(3, width))

    def _buffer(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    @torch.no_grad()
    def see(self, code: Code) -> None:
        """Take one training view into account; no synchronisation with the device."""
        if self.vocab:
            assert code.indices is not None
            place = code.indices + self.offsets
            if code.mask is not None:
                place = place.masked_fill(~code.mask.unsqueeze(-1), len(self.slot))
            self.seen.index_fill_(0, place.flatten(), self.step)
        else:
            z = code.z if code.mean is None else code.mean
            self.fresh.copy_(_merged(torch.stack([self.fresh, _moments(z.detach().float(), code.mask)])))

    @torch.no_grad()
    def update(self) -> None:
        """Close an optimiser step on all ranks, and warn once when a window ends under the floor."""
        if self.vocab:
            self.seen.copy_(distributed.max_over_ranks(self.seen))
        else:
            part, begun = divmod(self.step, -(-self.window // PARTS))
            current = self.moments[part % PARTS]
            if not begun:
                current.zero_()
            everyone = distributed.gather(self.fresh.unsqueeze(0))
            current.copy_(_merged(torch.cat([current.unsqueeze(0), everyone])))
            self.fresh.zero_()
        if (self.step + 1) % self.window == 0 and not self.warned:
            value = float(self.value())
            if value < self.floor:
                self.warned = True
                if distributed.rank() == 0:
                    warnings.warn(self._advice(value), CollapseWarning, stacklevel=3)
        self.step += 1

    @torch.no_grad()
    def value(self) -> Float[Tensor, ""]:
        """The share in use now, the open step included: a scalar; no synchronisation with the device."""
        if self.vocab:
            used = (self.seen[:-1] > self.step - self.window).float()
            count = torch.zeros(len(self.sizes), device=used.device).index_add_(0, self.slot, used)
            return torch.where(self.sizes > 2, count / self.sizes, (count == self.sizes).float()).mean()
        count, _, squares = _merged(torch.cat([self.moments, self.fresh.unsqueeze(0)]))
        variance = squares / count.clamp(min=1e-12)
        floor = variance.max() * 0.01 if self.active_variance is None else torch.tensor(self.active_variance)
        return (variance > floor.clamp(min=1e-12)).float().mean()

    def _advice(self, value: float) -> str:
        what = "dimensions" if not self.vocab else "bits" if set(self.vocab) == {2} else "codes"
        tries = self.remedy or f"fewer {what}, a lower learning rate, or another weight on its losses"
        share = f"{value:.0%} of its {what} in use over the last {self.window} steps"
        return f"{self.name} has collapsed: {share}. Try {tries}."


def _moments(z: Float[Tensor, "b n d"], mask: Tensor | None) -> Float[Tensor, "3 d"]:
    """Count, mean and sum of squared deviations over valid tokens."""
    weight = torch.ones_like(z[..., :1]) if mask is None else mask.unsqueeze(-1).to(z.dtype)
    z = z if mask is None else z.masked_fill(~mask.unsqueeze(-1), 0.0)
    count = weight.sum()
    mean = (z * weight).sum((0, 1)) / count.clamp(min=1.0)
    squares = ((z - mean).square() * weight).sum((0, 1))
    return torch.stack([count.expand_as(mean), mean, squares])


def _merged(rows: Float[Tensor, "r 3 d"]) -> Float[Tensor, "3 d"]:
    """The moments of several sets together (Chan et al. 1983); float32 will do: no large squares are summed."""
    counts, means, squares = rows.unbind(1)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count.clamp(min=1e-12)
    return torch.stack([count, mean, squares.sum(0) + (counts * (means - mean).square()).sum(0)])
