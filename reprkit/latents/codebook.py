"""What ``vq`` and ``residual-vq`` share: tables of codes, their statistics, k-means start and revival.

::

    forward, every view    start (once) ─► nearest ─► accumulate: counts and sums; no code is edited
    update, once a step    reduce over ranks ─► running means ─► codes ─► revival of dead ones
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit.interfaces import require
from reprkit.kernels.nearest_code import nearest
from reprkit.utils import collectives

SMOOTHING = 1e-5  # of the counts, as in the authors' own code (sonnet)
ITERATIONS = 10  # of k-means
JITTER = 0.1  # standard deviations: tells codes apart where the start has fewer vectors than codes


class Codebook(nn.Module):
    """Tables of codes (s k d), one a slot, learned by running means (EMA) or by gradients.

    Between optimiser steps nothing is edited: training forwards only ``accumulate``; ``update`` then changes
    codes, counts and sums together, from sums over all ranks, so all ranks hold the same tables.  Buffers
    keep their shapes for ever.

    Args:
        slots: how many tables.
        codes: entries of each, at least 2.
        dim: width of an entry.
        learned: codes are a parameter (gradients) instead of running means.
        decay: of the running means of counts and sums, in [0, 1).
        unit: the first so many tables hold vectors of length 1.
        kmeans: the first training batch sets the codes.
        revive: a code is dead when its running count is under this share of the mean count, in [0, 1); 0
            turns revival off.

    Attributes:
        table: the codes (s k d).
        count: running mean of how many vectors a step choose each code (s k).
        total: running mean of the sum of these vectors (s k d); only where not ``learned``.
        started: whether the codes are past their start; saved, so that a loaded model does not start again.
    """

    table: Tensor
    count: Tensor
    total: Tensor
    started: Tensor

    def __init__(
        self,
        *,
        slots: int,
        codes: int,
        dim: int,
        learned: bool = False,
        decay: float = 0.99,
        unit: int = 0,
        kmeans: bool = True,
        revive: float = 0.05,
    ) -> None:
        super().__init__()
        self.slots, self.codes, self.dim, self.unit = slots, codes, dim, unit
        self.learned, self.decay, self.kmeans, self.revive = learned, decay, kmeans, revive
        table = self._scaled(torch.randn(slots, codes, dim))
        if learned:
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table)
            self.register_buffer("total", table.clone())
        self.register_buffer("count", torch.ones(slots, codes))
        self.register_buffer("started", torch.tensor(not kmeans))
        # A mirror of `started` that needs no synchronisation with the device; None: read the buffer.
        self._waiting: bool | None = kmeans
        # This step's statistics. Not buffers: DDP would overwrite them with rank 0's at the next forward.
        self._counts: Tensor | None = None
        self._sums: Tensor | None = None
        self._seen: list[Tensor | None] = [None] * slots
        self._valid: Tensor | None = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._waiting = None

    # ------------------------------------------------------------------ reading

    @property
    def waiting(self) -> bool:
        """Whether the next training batch is to set the codes."""
        if self._waiting is None:
            self._waiting = not bool(self.started)
        return self._waiting

    def entries(self) -> Float[Tensor, "s k d"]:
        """The codes as they are used: of length 1 where they should be."""
        return self._scaled(self.table) if self.learned else self.table

    def look_up(self, indices: Int[Tensor, "... s"]) -> Float[Tensor, "... s d"]:
        """The codes of one index a slot; gradients reach a learned table."""
        return F.embedding(self._number(indices), self.entries().flatten(0, 1))

    def nearest(self, x: Float[Tensor, "m d"], slot: int) -> Int[Tensor, " m"]:
        """The index of the code nearest to each vector; ties go to the lowest index."""
        return nearest(x.detach(), self.entries()[slot].detach())

    # ------------------------------------------------------------------ training

    @torch.no_grad()
    def accumulate(
        self,
        vectors: Sequence[Float[Tensor, "m d"]],
        indices: Int[Tensor, "m s"],
        valid: Bool[Tensor, "m s"] | None = None,
    ) -> None:
        """Note what one view chose: each slot's vectors and their indices; only ``valid`` ones count."""
        ones = (
            torch.ones_like(indices, dtype=self.count.dtype) if valid is None else valid.to(self.count.dtype)
        )
        if self._counts is None:
            self._counts = torch.zeros_like(self.count)
        self._counts.view(-1).scatter_add_(0, self._number(indices).flatten(), ones.flatten())
        self._seen, self._valid = [each.detach() for each in vectors], valid
        if self.learned:
            return
        if self._sums is None:
            # One row more than codes: where padded vectors go, which saves a copy of the vectors.
            self._sums = self.table.new_zeros(self.slots, self.codes + 1, self.dim)
        for slot, each in enumerate(vectors):
            rows = indices[:, slot]
            if valid is not None:
                rows = rows.masked_fill(~valid[:, slot], self.codes)
            self._sums[slot].index_add_(0, rows, each.detach())

    @torch.no_grad()
    def update(self) -> None:
        """Close an optimiser step: running means, codes, revival.  Every rank must call it.

        Sums over ranks are taken every time and in fixed shapes, whatever this rank saw.
        """
        require(
            not (hasattr(self.table, "full_tensor") and (self.kmeans or self.revive)),
            "a codebook learned by gradients cannot be sharded (FSDP) and edited: "
            "use update='ema', or kmeans=False with revive=0",
        )
        counts = torch.zeros_like(self.count) if self._counts is None else self._counts
        counts = collectives.sum_over_ranks(counts)
        # A step in which the latent was not used leaves everything as it is.
        unused = counts.sum(-1, keepdim=True) == 0
        weight = torch.full_like(unused, 1 - self.decay, dtype=self.count.dtype).masked_fill_(unused, 0)
        self.count.lerp_(counts, weight)
        if not self.learned:
            sums = torch.zeros_like(self.total) if self._sums is None else self._sums[:, : self.codes]
            self.total.lerp_(collectives.sum_over_ranks(sums), weight.unsqueeze(-1))
            everything = self.count.sum(-1, keepdim=True)
            smooth = (self.count + SMOOTHING) / (everything + self.codes * SMOOTHING) * everything
            self.table.copy_(self._scaled(self.total / smooth.unsqueeze(-1)))
        if self.revive:
            self._revive()
        self._counts = self._sums = self._valid = None
        self._seen = [None] * self.slots

    def _revive(self) -> None:
        """Dead codes become vectors of the last view, spread over the joined batch.

        Code, count and sum change together.  The count becomes the mean one, so that a revived code has as
        long to be chosen as any other.
        """
        mean = self.count.mean(-1, keepdim=True)
        dead = self.count < self.revive * mean
        place = dead.cumsum(-1) - 1
        share = (place + broadcast_from_rank_0(torch.rand_like(self.count))) / dead.sum(
            -1, keepdim=True
        ).clamp(min=1)
        found, available = self._drawn(self._seen, self._valid, share)
        take = dead & (place < available)  # with fewer vectors than dead codes the others wait
        self.count.copy_(torch.where(take, mean, self.count))
        self.table.copy_(torch.where(take.unsqueeze(-1), found, self.table))
        if not self.learned:
            self.total.copy_(torch.where(take.unsqueeze(-1), found * mean.unsqueeze(-1), self.total))

    @torch.no_grad()
    def start(self, slot: int, x: Float[Tensor, "m d"], valid: Bool[Tensor, " m"] | None = None) -> None:
        """Set one table by k-means on the valid vectors of all ranks; the last slot closes the start.

        Lloyd's algorithm from vectors spread over the joined batch; clusters that run empty are drawn anew.
        Ranks exchange counts and sums only.  With fewer vectors than codes, these are vectors slightly apart.
        """
        x = x.detach()
        total = int(self._everyone(valid, len(x)).sum())  # the only synchronisation, in the first step
        if total == 0:
            return
        centres = self._spread(x, valid)
        if total < self.codes:
            centres = centres + JITTER * self._deviation(x, valid) * broadcast_from_rank_0(
                torch.randn_like(centres)
            )
        for iteration in range(ITERATIONS):
            rows = nearest(x, centres)
            rows = rows if valid is None else rows.masked_fill(~valid, self.codes)
            # In double precision, so that the mean of equal vectors (blank patches) is that very vector, and codes at one place
            # are tied exactly: else rounding, which depends on how rows lie on ranks, would choose between them.
            exact = x.double()
            counts = exact.new_zeros(self.codes + 1).index_add_(0, rows, exact.new_ones(len(x)))
            sums = exact.new_zeros(self.codes + 1, self.dim).index_add_(0, rows, exact)
            counts = collectives.sum_over_ranks(counts[: self.codes]).unsqueeze(-1)
            sums = collectives.sum_over_ranks(sums[: self.codes])
            anew = total >= self.codes and iteration < ITERATIONS - 1
            spare = self._spread(x, valid) if anew else centres
            centres = torch.where(counts > 0, (sums / counts.clamp(min=1)).to(x.dtype), spare)
            centres = F.normalize(centres, dim=-1) if slot < self.unit else centres
        mean = total / self.codes
        self.table[slot].copy_(centres)
        self.count[slot].copy_(torch.where(counts > 0, counts, mean).squeeze(-1))
        if not self.learned:
            self.total[slot].copy_(torch.where(counts > 0, sums, centres * mean))
        if slot == self.slots - 1:
            self.started.fill_(True)
            self._waiting = False

    # ------------------------------------------------------------------ helpers

    def _number(self, indices: Int[Tensor, "... s"]) -> Int[Tensor, "... s"]:
        """Each slot's indices as rows of all tables one after another."""
        return indices + torch.arange(self.slots, device=indices.device) * self.codes

    def _scaled(self, table: Float[Tensor, "s k d"]) -> Float[Tensor, "s k d"]:
        """The tables, with codes of length 1 where they should be."""
        if self.unit == 0:
            return table
        return torch.cat([F.normalize(table[: self.unit], dim=-1), table[self.unit :]])

    def _spread(self, x: Tensor, valid: Tensor | None) -> Float[Tensor, "k d"]:
        """As many vectors as there are codes, drawn evenly over the joined batch."""
        steps = torch.arange(self.codes, device=x.device)
        share = (steps + broadcast_from_rank_0(torch.rand(self.codes, device=x.device))) / self.codes
        return self._drawn([x], None if valid is None else valid.unsqueeze(-1), share.unsqueeze(0))[0][0]

    def _deviation(self, x: Tensor, valid: Tensor | None) -> Float[Tensor, " d"]:
        """Standard deviation of each dimension over all ranks' valid vectors."""
        kept = (x if valid is None else x[valid]).double()
        moments = torch.stack([torch.ones_like(kept), kept, kept.square()]).sum(1)
        number, total, squares = collectives.sum_over_ranks(moments)
        return (squares / number - (total / number).square()).clamp(min=0).sqrt().to(x.dtype)

    def _everyone(self, valid: Tensor | None, rows: int, slots: int = 1) -> Int[Tensor, "ranks s 1"]:
        """How many of its ``rows`` vectors are valid, on each rank and in each slot."""
        if valid is None:
            here = torch.full((slots,), rows, device=self.count.device)
        else:
            here = valid.view(rows, slots).sum(0)
        return collectives.gather(here.view(1, slots, 1))

    def _drawn(
        self,
        vectors: Sequence[Tensor | None],
        valid: Bool[Tensor, "m s"] | None,
        share: Float[Tensor, "s k"],
    ) -> tuple[Float[Tensor, "s k d"], Int[Tensor, "s 1"]]:
        """Each slot's vectors at these shares, in [0, 1), of the joined batch's valid ones; their number."""
        counts = self._everyone(valid, 0 if vectors[0] is None else len(vectors[0]), len(vectors))
        total, rank = counts.sum(0), collectives.rank()
        position = torch.minimum((share * total).long(), total - 1) - counts[:rank].sum(0)
        here = (position >= 0) & (position < counts[rank])
        found = self.table.new_zeros(*share.shape, self.dim)
        for slot, each in enumerate(vectors):
            if each is None:
                continue
            row = position[slot]
            if valid is not None:
                row = torch.searchsorted(valid[:, slot].cumsum(0), row + 1)
            picked = each.index_select(0, row.clamp(0, len(each) - 1))
            found[slot] = torch.where(here[slot].unsqueeze(-1), picked, 0)
        return collectives.sum_over_ranks(found), total


def broadcast_from_rank_0(draw: Tensor) -> Tensor:
    """Rank 0's draw, on all ranks."""
    return collectives.sum_over_ranks(draw if collectives.rank() == 0 else torch.zeros_like(draw))
