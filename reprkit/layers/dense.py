"""Fully connected layers, and activations by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reprkit.errors import PartArgumentError, nearest
from reprkit.layers.dropout import Dropout

Activation = Literal["elu", "gelu", "relu", "sigmoid", "silu", "tanh"]
Norm = Literal["layer", "none"]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
NORMS: dict[str, Callable[[int], nn.Module]] = {"layer": nn.LayerNorm, "none": lambda width: nn.Identity()}


def activation(name: str) -> nn.Module:
    """An activation by name.

    Raises:
        PartArgumentError: no such activation.
    """
    return _look_up("activation", name, ACTIVATIONS)()


def norm(name: str, width: int) -> nn.Module:
    """A normalisation over the last axis by name: "layer" or "none".

    Raises:
        PartArgumentError: no such normalisation.
    """
    return _look_up("norm", name, NORMS)(width)


def hidden_widths(width: int, depth: int, widths: Sequence[int] | None) -> tuple[int, ...]:
    """The widths of the hidden layers: ``widths`` where given, else ``depth`` times ``width``."""
    return (width,) * depth if widths is None else tuple(widths)


class OneHotLinear(nn.Module):
    """A linear map of one-hot symbols, by looking its columns up: (b t) int64 to (b width)."""

    offsets: Tensor

    def __init__(self, places: int, symbols: int, width: int) -> None:
        super().__init__()
        bound = (
            places**-0.5
        )  # as nn.Linear's, where of an input's places * symbols elements only ``places`` are not 0
        self.register_buffer("offsets", torch.arange(places) * symbols, persistent=False)
        self.columns = nn.Embedding(places * symbols, width)
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        nn.init.uniform_(self.columns.weight, -bound, bound)

    def forward(self, symbols: Tensor) -> Tensor:
        """(b t) int64 to (b width)."""
        return self.columns(symbols + self.offsets).sum(1) + self.bias


def hidden_layers(
    first: nn.Module, widths: Sequence[int], *, norm_name: str, activation_name: str, dropout: float = 0.0
) -> nn.Sequential:
    """``first`` (it makes the first width), then linear layers; each with norm, activation and dropout."""
    layers: list[nn.Module] = []
    for place, width in enumerate(widths):
        linear = nn.Linear(widths[place - 1], width) if place else first
        layers += [linear, norm(norm_name, width), activation(activation_name), Dropout(dropout)]
    return nn.Sequential(*layers)


def _look_up(what: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise PartArgumentError(
            f"no {what} named {name!r}.{nearest(str(name), known)}\n  known: {', '.join(sorted(known))}"
        )
    return known[name]
