"""Sparse gradients, of embeddings with ``sparse=True``: which weights have them, their norm, Adagrad and Adam for both kinds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Adam

from reprkit.training.own_updates import OwnUpdates


def sparse_weights(module: nn.Module) -> dict[nn.Parameter, str]:
    """Return the weights whose gradients are sparse, and their names; those that DDP exchanges as such."""
    return {
        cast("nn.Parameter", each.weight): f"{name}.weight"
        for name, each in module.named_modules()
        if isinstance(each, nn.Embedding | nn.EmbeddingBag) and each.sparse and each.weight.requires_grad
    }


def gradient_values(gradient: Tensor) -> Tensor:
    """Return the values of a gradient: all of them, or of a sparse one those of its rows, each row once."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def merge_rows(parameters: Sequence[nn.Parameter]) -> None:
    """Sum the values of equal rows of sparse gradients, in place of the gradients, so that they can be scaled in place."""
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()


class Adagrad(OwnUpdates, torch.optim.Adagrad):
    """torch's Adagrad, with updates of sparse gradients that read and write only the rows in use."""

    def is_own(self, gradient: Tensor) -> bool:
        """Whether the gradient is sparse."""
        return gradient.is_sparse

    def update_own(self, weight: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update the rows of a weight that have a gradient."""
        state = self.state[weight]
        state["step"] += 1
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        values = -values if group["maximize"] else values
        total = state["sum"].index_select(0, rows).addcmul_(values, values)
        state["sum"].index_copy_(0, rows, total)
        rate = float(group["lr"]) / (1 + (int(state["step"]) - 1) * group["lr_decay"])
        weight.index_add_(0, rows, values / total.sqrt_().add_(group["eps"]), alpha=-rate)


class RowAdagrad(OwnUpdates, torch.optim.Adagrad):
    """Adagrad with one step size a row of a weight, of dense and sparse gradients; vectors and scalars as torch's Adagrad.

    A row (the first index of a weight of two or more dimensions) is divided by the root of the sum, over steps, of the mean square
    of its gradient.  The state of a table of v rows is v numbers instead of v * d, and a step reads a fraction of the memory.
    Source: row-wise sparse Adagrad of embedding tables, Mudigere et al. 2022 (arXiv 2104.05158).

    Args:
        params: the weights, or groups of them.
        lr: learning rate.
        lr_decay: the rate is divided by 1 + lr_decay * (step - 1).
        weight_decay: added to dense gradients, times the weight; sparse ones have none.
        initial_accumulator_value: the sum at the start.
        eps: added to the root.
        maximize: go uphill.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        *,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            maximize=maximize,
        )
        for weight in (weight for group in self.param_groups for weight in group["params"]):
            if weight.ndim > 1:
                self.state[weight]["sum"] = _one_a_row(weight, initial_accumulator_value)

    def is_own(self, gradient: Tensor) -> bool:
        """Whether the weight has rows."""
        return gradient.ndim > 1

    def update_own(self, weight: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update the rows that have a gradient; of a dense one all."""
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["sum"] = _one_a_row(weight, group["initial_accumulator_value"])
        state["step"] += 1
        rate = float(group["lr"]) / (1 + (int(state["step"]) - 1) * group["lr_decay"])
        rate = -rate if group["maximize"] else rate
        if not gradient.is_sparse:
            gradient = (
                gradient.add(weight, alpha=group["weight_decay"]) if group["weight_decay"] else gradient
            )
            others = tuple(range(1, gradient.ndim))
            total = state["sum"].add_(gradient.square().mean(others, keepdim=True))
            weight.sub_(gradient * (rate / total.sqrt().add_(group["eps"])))
            return
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        squares = torch.linalg.vector_norm(values, dim=1).square_().div_(values.shape[1])
        total = state["sum"].view(-1).index_add_(0, rows, squares).index_select(0, rows)
        weight.index_add_(0, rows, values * (-rate / total.sqrt_().add_(group["eps"])).unsqueeze(1))


def _one_a_row(weight: Tensor, value: float) -> Tensor:
    return weight.new_full((len(weight), *[1] * (weight.ndim - 1)), value)


class SparseAdam(OwnUpdates, Adam):
    """Adam for weights of both kinds: dense gradients as torch's Adam, sparse ones as torch's SparseAdam.

    Moments and weights of rows without a gradient do not change, so an embedding of many symbols costs what its batch holds.
    """

    def is_own(self, gradient: Tensor) -> bool:
        """Whether the gradient is sparse."""
        return gradient.is_sparse

    def update_own(self, weight: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        """Update the rows of a weight that have a gradient, as torch's SparseAdam does."""
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        values = -values if group["maximize"] else values
        (beta1, beta2), step = group["betas"], int(state["step"])
        mean = state["exp_avg"][rows].lerp(values, 1 - beta1)
        square = state["exp_avg_sq"][rows].lerp(values.square(), 1 - beta2)
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        rate = float(group["lr"]) * math.sqrt(1 - beta2**step) / (1 - beta1**step)
        weight.index_add_(0, rows, mean / (square.sqrt() + group["eps"]), alpha=-rate)
