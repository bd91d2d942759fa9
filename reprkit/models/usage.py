"""Usage of a latent, under one name for all latents, and a warning when it collapses."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.interfaces import Latent
from reprkit.types import Code
from reprkit.utils import collectives

WINDOW = 200  # optimizer steps over which an entry counts as in use
# Steps of a window at which the variance of dimensions is measured: enough batches for an estimate.
VARIANCE_UPDATES = 50
VALUE_INTERVAL = 10  # steps between two computations of the metric
SEGMENTS = 8  # segments of a window with moments of their own: the oldest is discarded as a whole


class CollapseWarning(UserWarning):
    """A latent uses hardly any of its codes, bits or dimensions."""


class Usage(nn.Module):
    """Fraction of codes, bits or dimensions in use over the last ``window`` steps and over all ranks, in [0, 1].

    Codes: entries chosen at least once (mean over slots).  Bits (slots of two entries): slots that took
    both values.  Dimensions: those whose variance over the data is above the latent's ``active_variance``
    (Burda et al. 2016, arXiv 1509.00519, for the Gaussian's 0.01).

    Args:
        latent: the latent whose codes are observed.
        name: name of the latent in the warning.
        window: number of optimizer steps.
        floor: usage below which, at the end of a window, it warns (once); None takes the latent's ``collapse_floor``.
    """

    seen: Tensor
    offsets: Tensor
    slot: Tensor
    sizes: Tensor
    moments: Tensor
    share: Tensor

    def __init__(self, latent: Latent, name: str, window: int = WINDOW, floor: float | None = None) -> None:
        super().__init__()
        self.name, self.window = name, window
        self.floor = latent.collapse_floor if floor is None else floor
        self.vocab, self.active_variance = latent.vocab, latent.active_variance
        self.collapse_hint = latent.collapse_hint
        self.step, self.warned = 0, False
        self.complaint = ""  # the text of the warning, for the run's record
        self.part = 0  # the current segment, counted from the first step
        self.latest: tuple[Tensor, Tensor | None] | None = None  # codes (b n d) and mask of the last view
        sizes = torch.tensor(self.vocab or (), dtype=torch.int64)
        width = 0 if self.vocab else latent.out_dim
        # The step at which each entry was last chosen: O(entries) memory whatever the window, and exact.
        # The last element collects the choices of padded tokens.
        self._buffer("seen", torch.full((int(sizes.sum()) + 1,), -window, dtype=torch.int64))
        self._buffer("offsets", sizes.cumsum(0) - sizes)
        self._buffer("slot", torch.arange(len(sizes)).repeat_interleave(sizes))
        self._buffer("sizes", sizes)
        # Count, sum and sum of squares of each dimension, by segments of the window; in float64, sums of squares
        # are precise enough for a variance that is small compared with the mean.
        self._buffer("moments", torch.zeros(SEGMENTS, 3, width, dtype=torch.float64))
        self._buffer("share", torch.zeros(()))

    def _buffer(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    @torch.no_grad()
    def observe(self, code: Code) -> None:
        """Update the statistics with one training view of all ranks.  Every rank must call it; no device synchronization."""
        self.latest = code.point.detach(), code.mask
        if self.vocab:
            assert code.indices is not None
            index = code.indices + self.offsets
            if code.mask is not None:
                index = index.masked_fill(~code.mask.unsqueeze(-1), len(self.slot))
            self.seen.index_fill_(0, index.flatten(), self.step)
            self.seen.copy_(collectives.max_over_ranks(self.seen))
        elif self.step % max(1, self.window // VARIANCE_UPDATES) == 0:
            moments = collectives.sum_over_ranks(_compute_moments(code.point.detach().float(), code.mask))
            part = self.step // -(-self.window // SEGMENTS)
            for skipped in range(max(self.part, part - SEGMENTS) + 1, part + 1):
                self.moments[skipped % SEGMENTS].zero_()
            self.part = part
            self.moments[part % SEGMENTS] += moments

    @torch.no_grad()
    def update(self) -> None:
        """Finish an optimizer step, and warn once when a window ends below the floor.

        Steps before the first observed view do not count: an objective may start with steps that do not encode.
        """
        if self.latest is None:
            return
        if (self.step + 1) % self.window == 0 and not self.warned:
            value = float(self.value())
            if value < self.floor:
                self.warned, self.complaint = True, self._collapse_message(value)
                if collectives.is_main():
                    warnings.warn(self.complaint, CollapseWarning, stacklevel=3)
        self.step += 1

    @torch.no_grad()
    def recent(self) -> Float[Tensor, ""]:
        """Return the fraction in use, recomputed every few steps only: it changes slowly, and every step reads it."""
        if self.step % VALUE_INTERVAL == 0:
            self.share.copy_(self.value())
        return self.share.clone()

    @torch.no_grad()
    def value(self) -> Float[Tensor, ""]:
        """Return the fraction in use now, the current step included: a scalar, without synchronizing the device."""
        if self.vocab:
            used = (self.seen[:-1] > self.step - self.window).float()
            count = torch.zeros(len(self.sizes), device=used.device).index_add_(0, self.slot, used)
            return torch.where(self.sizes > 2, count / self.sizes, (count == self.sizes).float()).mean()
        count, sums, squares = self.moments.sum(0)
        count = count.clamp(min=1e-12)
        variance = squares / count - (sums / count).square()
        floor = variance.max() * 0.01 if self.active_variance is None else torch.tensor(self.active_variance)
        return (variance > floor.clamp(min=1e-12)).float().mean()

    def _collapse_message(self, value: float) -> str:
        what = "dimensions" if not self.vocab else "bits" if set(self.vocab) == {2} else "codes"
        tries = self.collapse_hint or f"fewer {what}, a lower learning rate, or another weight on its losses"
        share = f"{value:.0%} of its {what} in use over the last {self.window} steps"
        return f"{self.name} has collapsed: {share}. Try {tries}."


def _compute_moments(z: Float[Tensor, "b n d"], mask: Tensor | None) -> Float[Tensor, "3 d"]:
    """Return count, sum and sum of squares over valid tokens: reductions in float32, the few results in float64."""
    if mask is None:
        tokens = torch.full(z.shape[-1:], z.shape[0] * z.shape[1], dtype=torch.float64, device=z.device)
        mean = z.mean((0, 1))  # var_mean is five times slower where there are many tokens
        spread = (z - mean).square().sum((0, 1))
    else:
        weight = mask.unsqueeze(-1).to(z.dtype)
        z = z.masked_fill(~mask.unsqueeze(-1), 0.0)
        tokens = weight.sum().double().expand(z.shape[-1])
        mean = z.sum((0, 1)) / tokens.clamp(min=1.0).float()
        spread = ((z - mean).square() * weight).sum((0, 1))
    mean, spread = torch.stack([mean, spread]).double()
    sums = tokens * mean
    return torch.stack([tokens, sums, torch.addcmul(spread, sums, mean)])
