"""Rows of large tables: sparse gradients in which each row stands once, without sorting where the table is small."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_SPARSELY_USED = 64  # rows of a table for each one that is used, above which sorting is faster than marking


def distinct_rows(index: Int[Tensor, " t"], size: int) -> tuple[Int[Tensor, " u"], Int[Tensor, " t"]]:
    """Return the distinct values of an index below ``size``, ascending, and the position of each element among them."""
    if size > _SPARSELY_USED * len(index):
        rows, inverse = torch.unique(index, return_inverse=True)
        return rows, inverse
    used = torch.zeros(size, dtype=torch.bool, device=index.device)
    used[index] = True
    rows = used.nonzero()[:, 0]
    place = torch.empty(size, dtype=torch.int64, device=index.device)
    place[rows] = torch.arange(len(rows), device=index.device)
    return rows, place.index_select(0, index)


def sparse_gradient(
    index: Int[Tensor, " t"], values: Float[Tensor, "t d"], size: int
) -> Float[Tensor, "v d"]:
    """Return the gradient of a table of ``size`` rows as a coalesced sparse tensor: the sum of the values of each row."""
    rows, inverse = distinct_rows(index, size)
    merged = values.new_zeros(len(rows), values.shape[1]).index_add_(0, inverse, values)
    with torch.sparse.check_sparse_tensor_invariants(enable=False):  # torch warns where nothing is said
        return torch.sparse_coo_tensor(rows.unsqueeze(0), merged, (size, values.shape[1]), is_coalesced=True)


class LookUp(Function):
    """Rows of a table (v d) at an index (b n), with a sparse gradient: ``LookUp.apply(table, index)`` is (b n d)."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        """Return the rows."""
        ctx.save_for_backward(index)
        ctx.size = len(table)
        return table.index_select(0, index.flatten()).view(*index.shape, table.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the table."""
        (index,) = ctx.saved_tensors
        return sparse_gradient(index.flatten(), gradient.flatten(0, -2), ctx.size), None
