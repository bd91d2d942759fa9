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
    """Create an activation by name.

    Raises:
        PartArgumentError: no such activation.
    """
    return _look_up("activation", name, ACTIVATIONS)()


def norm(name: str, width: int) -> nn.Module:
    """Create a normalization over the last axis by name: "layer" or "none".

    Raises:
        PartArgumentError: no such normalization.
    """
    return _look_up("norm", name, NORMS)(width)


def hidden_widths(width: int, depth: int, widths: Sequence[int] | None) -> tuple[int, ...]:
    """Return the widths of the hidden layers: ``widths`` if given, else ``depth`` times ``width``."""
    return (width,) * depth if widths is None else tuple(widths)


class OneHotLinear(nn.Module):
    """A linear map of one-hot symbols, computed by column look-up: (... t) int64 to (... width)."""

    offsets: Tensor

    def __init__(self, places: int, symbols: int, width: int) -> None:
        super().__init__()
        bound = places**-0.5  # that of nn.Linear, for the ``places`` non-zero elements of an input
        self.register_buffer("offsets", torch.arange(places) * symbols, persistent=False)
        self.columns = nn.Embedding(places * symbols, width)
        self.bias = nn.Parameter(torch.empty(width).uniform_(-bound, bound))
        nn.init.uniform_(self.columns.weight, -bound, bound)

    def forward(self, symbols: Tensor) -> Tensor:
        """Map (... t) int64 to (... width)."""
        return self.columns(symbols + self.offsets).sum(-2) + self.bias


def hidden_layers(
    first: nn.Module, widths: Sequence[int], *, norm_name: str, activation_name: str, dropout: float = 0.0
) -> nn.Sequential:
    """Stack ``first``, whose output has the first width, and linear layers; each with norm, activation and dropout."""
    layers: list[nn.Module] = []
    for position, width in enumerate(widths):
        linear = nn.Linear(widths[position - 1], width) if position else first
        layers += [linear, norm(norm_name, width), activation(activation_name), Dropout(dropout)]
    return nn.Sequential(*layers)


def _look_up(what: str, name: str, known: dict[str, Any]) -> Any:
    if name not in known:
        raise PartArgumentError(
            f"no {what} named {name!r}.{nearest(str(name), known)}\n  known: {', '.join(sorted(known))}"
        )
    return known[name]
