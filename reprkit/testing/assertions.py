"""Assertions of the conformance checks, which also hold under ``python -O``."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from reprkit.interfaces import Part


def expect(condition: bool | Tensor, message: str) -> None:
    """Raise AssertionError with ``message`` unless the condition holds; unlike ``assert`` also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def expect_close(a: Tensor, b: Tensor, what: str, tolerance: float = 1e-5) -> None:
    """Require equality within ``tolerance``, relative and absolute; the error says what differs and by how much."""
    expect(a.shape == b.shape, f"{what}: shapes {tuple(a.shape)} and {tuple(b.shape)}")
    a, b = (each.to_dense() if each.is_sparse else each for each in (a, b))  # gradients of embeddings
    if not a.is_floating_point() or a.numel() == 0:
        expect(torch.equal(a, b), f"{what}: differs")
        return
    gap = (a.detach().double() - b.detach().double()).abs()
    limit = tolerance + tolerance * b.detach().double().abs()
    within = (gap <= limit) | (a == b)  # equal infinities have no difference
    expect(within.all(), f"{what}: differs by up to {float(gap.nan_to_num(math.inf).max()):.3g}")


def expect_same_state(one: nn.Module, other: nn.Module, what: str) -> None:
    """Require that both modules have equal state dicts."""
    a, b = one.state_dict(), other.state_dict()
    expect(a.keys() == b.keys(), f"{what}, different tensors: {', '.join(sorted(a.keys() ^ b.keys()))}")
    for name, value in a.items():
        expect_close(b[name], value, f"{what}, {name}", 0.0)


def has_trainable_parameters(part: nn.Module) -> bool:
    """Whether the part has a parameter that training changes; others, such as a flattening encoder, have no gradient."""
    return any(value.requires_grad for value in part.parameters())


def parameters_without_gradient(part: nn.Module) -> list[str]:
    """Return the names of trainable parameters without a gradient after the backward pass."""
    return [name for name, value in part.named_parameters() if value.requires_grad and value.grad is None]


def expect_gradients(part: nn.Module) -> None:
    """Require a gradient of every trainable parameter, since DDP raises on unused ones."""
    unused = parameters_without_gradient(part)
    expect(not unused, f"no gradient reaches {', '.join(unused)}")


def expect_instance(part: Any, base: type[Part]) -> None:
    """Require that the part is a subclass of its interface."""
    expect(isinstance(part, base), f"{type(part).__name__} is not a subclass of reprkit.{base.__name__}")
