"""The codebook of ``vq`` and ``residual-vq``: tables of codes, their statistics, k-means start and revival.

::

    forward, every view    start (once) ─► nearest ─► accumulate counts and sums; codes are unchanged
    update, once a step    reduce over ranks ─► moving averages ─► codes ─► revival of dead codes
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
JITTER = 0.1  # standard deviations: separates codes where the start has fewer vectors than codes


class Codebook(nn.Module):
    """Tables of codes (s k d), one per slot, learned by exponential moving averages (EMA) or by gradients.

    Codes do not change between optimizer steps: training forwards only ``accumulate``; ``update`` then changes
    codes, counts and sums together, from sums over all ranks, so all ranks hold the same tables.  Buffers
    never change their shapes.

    Args:
        slots: number of tables.
        codes: number of entries in each table, at least 2.
        dim: width of an entry.
        learned: codes are a parameter (trained by gradients) instead of moving averages.
        decay: decay of the moving averages of counts and sums, in [0, 1).
        unit: number of leading tables whose vectors are normalized to length 1.
        kmeans: initialize the codes by k-means on the first training batch.
        revive: a code is dead when its average count is below this fraction of the mean count, in [0, 1); 0
            turns revival off.

    Attributes:
        table: the codes (s k d).
        count: moving average of the number of vectors per step assigned to each code (s k).
        total: moving average of the sum of these vectors (s k d); absent if ``learned``.
        started: whether the codes are initialized; saved, so that a loaded model does not start again.
    """

    renamed_attributes = {"_waiting": "_needs_start"}  # noqa: RUF012 (former name in saved states)

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
        table = self._normalize_tables(torch.randn(slots, codes, dim))
        if learned:
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table)
            self.register_buffer("total", table.clone())
        self.register_buffer("count", torch.ones(slots, codes))
        self.register_buffer("started", torch.tensor(not kmeans))
        # A copy of `not started` on the host, to read without synchronizing with the device; None: read the buffer.
        self._needs_start: bool | None = kmeans
        # This step's statistics. Not buffers: DDP would overwrite them with rank 0's at the next forward.
        self._counts: Tensor | None = None
        self._sums: Tensor | None = None
        self._last_vectors: list[Tensor | None] = [None] * slots
        self._valid: Tensor | None = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._needs_start = None

    # ------------------------------------------------------------------ reading

    @property
    def needs_start(self) -> bool:
        """Whether the next training batch initializes the codes."""
        if self._needs_start is None:
            self._needs_start = not bool(self.started)
        return self._needs_start

    def entries(self) -> Float[Tensor, "s k d"]:
        """Return the codes as they are used, normalized in the ``unit`` tables."""
        return self._normalize_tables(self.table) if self.learned else self.table

    def look_up(self, indices: Int[Tensor, "... s"]) -> Float[Tensor, "... s d"]:
        """Return the codes of one index per slot; gradients reach a learned table."""
        return F.embedding(self._flatten_indices(indices), self.entries().flatten(0, 1))

    def nearest(self, x: Float[Tensor, "m d"], slot: int) -> Int[Tensor, " m"]:
        """Return the index of the code nearest to each vector; ties go to the lowest index."""
        return nearest(x.detach(), self.entries()[slot].detach())

    # ------------------------------------------------------------------ training

    @torch.no_grad()
    def accumulate(
        self,
        vectors: Sequence[Float[Tensor, "m d"]],
        indices: Int[Tensor, "m s"],
        valid: Bool[Tensor, "m s"] | None = None,
    ) -> None:
        """Add one view to the statistics: each slot's vectors and their indices, ``valid`` ones only."""
        ones = (
            torch.ones_like(indices, dtype=self.count.dtype) if valid is None else valid.to(self.count.dtype)
        )
        if self._counts is None:
            self._counts = torch.zeros_like(self.count)
        self._counts.view(-1).scatter_add_(0, self._flatten_indices(indices).flatten(), ones.flatten())
        self._last_vectors, self._valid = [x.detach() for x in vectors], valid
        if self.learned:
            return
        if self._sums is None:
            # One extra row collects padded vectors, which saves a copy of the vectors.
            self._sums = self.table.new_zeros(self.slots, self.codes + 1, self.dim)
        for slot, x in enumerate(vectors):
            rows = indices[:, slot]
            if valid is not None:
                rows = rows.masked_fill(~valid[:, slot], self.codes)
            self._sums[slot].index_add_(0, rows, x.detach())

    @torch.no_grad()
    def update(self) -> None:
        """Update moving averages and codes and revive dead codes, once per optimizer step, on every rank.

        Sums over ranks are taken at every call and in fixed shapes, whatever vectors this rank had.
        """
        require(
            not (hasattr(self.table, "full_tensor") and (self.kmeans or self.revive)),
            "a codebook learned by gradients cannot be initialized by k-means or revived under FSDP: "
            "use update='ema', or kmeans=False with revive=0",
        )
        counts = torch.zeros_like(self.count) if self._counts is None else self._counts
        counts = collectives.sum_over_ranks(counts)
        # A step in which the latent was not used changes nothing.
        unused = counts.sum(-1, keepdim=True) == 0
        weight = torch.full_like(unused, 1 - self.decay, dtype=self.count.dtype).masked_fill_(unused, 0)
        self.count.lerp_(counts, weight)
        if not self.learned:
            sums = torch.zeros_like(self.total) if self._sums is None else self._sums[:, : self.codes]
            self.total.lerp_(collectives.sum_over_ranks(sums), weight.unsqueeze(-1))
            total = self.count.sum(-1, keepdim=True)
            smooth = (self.count + SMOOTHING) / (total + self.codes * SMOOTHING) * total
            self.table.copy_(self._normalize_tables(self.total / smooth.unsqueeze(-1)))
        if self.revive:
            self._revive()
        self._counts = self._sums = self._valid = None
        self._last_vectors = [None] * self.slots

    def _revive(self) -> None:
        """Replace dead codes by vectors of the last view, spread evenly over the joined batch.

        Code, count and sum change together.  The count is set to the mean count, so that a revived code has as
        many steps to be used as any other.
        """
        mean = self.count.mean(-1, keepdim=True)
        dead = self.count < self.revive * mean
        rank_among_dead = dead.cumsum(-1) - 1
        offset = broadcast_from_rank_0(torch.rand_like(self.count))
        quantile = (rank_among_dead + offset) / dead.sum(-1, keepdim=True).clamp(min=1)
        vectors, available = self._gather_vectors(self._last_vectors, self._valid, quantile)
        replace = dead & (rank_among_dead < available)  # with too few vectors, the other codes stay dead
        self.count.copy_(torch.where(replace, mean, self.count))
        self.table.copy_(torch.where(replace.unsqueeze(-1), vectors, self.table))
        if not self.learned:
            self.total.copy_(torch.where(replace.unsqueeze(-1), vectors * mean.unsqueeze(-1), self.total))

    @torch.no_grad()
    def start(self, slot: int, x: Float[Tensor, "m d"], valid: Bool[Tensor, " m"] | None = None) -> None:
        """Initialize one table by k-means on the valid vectors of all ranks; call it for the last slot last.

        Lloyd's algorithm from vectors spread evenly over the joined batch; empty clusters are drawn again.
        Ranks exchange counts and sums only.  With fewer vectors than codes, codes are vectors plus small noise.
        """
        x = x.detach()
        # The only synchronization with the device, in the first step.
        total = int(self._count_valid(valid, len(x)).sum())
        if total == 0:
            return
        centers = self._sample_evenly(x, valid)
        if total < self.codes:
            centers = centers + JITTER * self._standard_deviation(x, valid) * broadcast_from_rank_0(
                torch.randn_like(centers)
            )
        for iteration in range(ITERATIONS):
            rows = nearest(x, centers)
            rows = rows if valid is None else rows.masked_fill(~valid, self.codes)
            # In double precision, so that the mean of equal vectors (blank patches) is exactly that vector and equal codes tie
            # exactly: otherwise rounding, which depends on how rows are split over ranks, would choose between them.
            exact = x.double()
            counts = exact.new_zeros(self.codes + 1).index_add_(0, rows, exact.new_ones(len(x)))
            sums = exact.new_zeros(self.codes + 1, self.dim).index_add_(0, rows, exact)
            counts = collectives.sum_over_ranks(counts[: self.codes]).unsqueeze(-1)
            sums = collectives.sum_over_ranks(sums[: self.codes])
            redraw = total >= self.codes and iteration < ITERATIONS - 1
            spare = self._sample_evenly(x, valid) if redraw else centers
            centers = torch.where(counts > 0, (sums / counts.clamp(min=1)).to(x.dtype), spare)
            centers = F.normalize(centers, dim=-1) if slot < self.unit else centers
        mean = total / self.codes
        self.table[slot].copy_(centers)
        self.count[slot].copy_(torch.where(counts > 0, counts, mean).squeeze(-1))
        if not self.learned:
            self.total[slot].copy_(torch.where(counts > 0, sums, centers * mean))
        if slot == self.slots - 1:
            self.started.fill_(True)
            self._needs_start = False

    # ------------------------------------------------------------------ helpers

    def _flatten_indices(self, indices: Int[Tensor, "... s"]) -> Int[Tensor, "... s"]:
        """Convert each slot's indices to rows of the concatenated tables."""
        return indices + torch.arange(self.slots, device=indices.device) * self.codes

    def _normalize_tables(self, table: Float[Tensor, "s k d"]) -> Float[Tensor, "s k d"]:
        """Normalize the codes of the first ``unit`` tables to length 1."""
        if self.unit == 0:
            return table
        return torch.cat([F.normalize(table[: self.unit], dim=-1), table[self.unit :]])

    def _sample_evenly(self, x: Tensor, valid: Tensor | None) -> Float[Tensor, "k d"]:
        """Sample as many vectors as there are codes, evenly over the joined batch."""
        steps = torch.arange(self.codes, device=x.device)
        quantile = (steps + broadcast_from_rank_0(torch.rand(self.codes, device=x.device))) / self.codes
        mask = None if valid is None else valid.unsqueeze(-1)
        return self._gather_vectors([x], mask, quantile.unsqueeze(0))[0][0]

    def _standard_deviation(self, x: Tensor, valid: Tensor | None) -> Float[Tensor, " d"]:
        """Compute the standard deviation of each dimension over all ranks' valid vectors."""
        rows = (x if valid is None else x[valid]).double()
        moments = torch.stack([torch.ones_like(rows), rows, rows.square()]).sum(1)
        number, total, squares = collectives.sum_over_ranks(moments)
        return (squares / number - (total / number).square()).clamp(min=0).sqrt().to(x.dtype)

    def _count_valid(self, valid: Tensor | None, rows: int, slots: int = 1) -> Int[Tensor, "ranks s 1"]:
        """Count the valid ones of ``rows`` vectors, on each rank and in each slot."""
        if valid is None:
            count = torch.full((slots,), rows, device=self.count.device)
        else:
            count = valid.view(rows, slots).sum(0)
        return collectives.gather(count.view(1, slots, 1))

    def _gather_vectors(
        self,
        vectors: Sequence[Tensor | None],
        valid: Bool[Tensor, "m s"] | None,
        quantile: Float[Tensor, "s k"],
    ) -> tuple[Float[Tensor, "s k d"], Int[Tensor, "s 1"]]:
        """Gather each slot's vectors at these quantiles, in [0, 1), of the joined batch's valid rows.

        Returns:
            The vectors (s k d), and how many valid ones there are in each slot (s 1).
        """
        counts = self._count_valid(valid, 0 if vectors[0] is None else len(vectors[0]), len(vectors))
        total, rank = counts.sum(0), collectives.rank()
        position = torch.minimum((quantile * total).long(), total - 1) - counts[:rank].sum(0)
        on_this_rank = (position >= 0) & (position < counts[rank])
        gathered = self.table.new_zeros(*quantile.shape, self.dim)
        for slot, x in enumerate(vectors):
            if x is None:
                continue
            row = position[slot]
            if valid is not None:
                row = torch.searchsorted(valid[:, slot].cumsum(0), row + 1)
            selected = x.index_select(0, row.clamp(0, len(x) - 1))
            gathered[slot] = torch.where(on_this_rank[slot].unsqueeze(-1), selected, 0)
        return collectives.sum_over_ranks(gathered), total


def broadcast_from_rank_0(draw: Tensor) -> Tensor:
    """Return rank 0's draw on all ranks."""
    return collectives.sum_over_ranks(draw if collectives.rank() == 0 else torch.zeros_like(draw))
