"""Steps of a recurrent network for one sequence on a CPU, where NumPy's calls cost less than torch's.

At a width of 512 most of a step is reading the weights, and NumPy's product of a matrix and a vector reads them fastest; at 128
most of it is calls.  A sigmoid is half a hyperbolic tangent of half its input and a half, so the weights of the gates that have
one are halved beforehand, which is exact, and one ``tanh`` serves all gates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


def is_supported(net: nn.GRU | nn.LSTM, size: int) -> bool:
    """Whether this is for ``size`` sequences of this network."""
    weight = net.all_weights[0][0]
    return size == 1 and weight.device.type == "cpu" and weight.dtype == torch.float32


def halve_sigmoid_weights(rows: Tensor, width: int, gates: int) -> Tensor:
    """The weights (g ...) with those of the first ``gates`` gates, the sigmoids, halved in place."""
    rows[: gates * width] /= 2
    return rows


def lstm(
    layers: Sequence[tuple[Tensor, ...]], gates: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One step: the output (1 d) and the next state; ``gates`` (1 g) is the first layer's input."""
    depth, width = len(layers), state[0].shape[1]
    coming, out = gates.numpy()[0], None
    hidden, cells = [], []
    for place, (weight, *bias) in enumerate(layers):
        read = state[place].numpy()[0]
        if out is not None:
            read, coming = np.concatenate([out, read]), bias[0].numpy()[0]
        value = weight.numpy() @ read
        value += coming
        np.tanh(value, out=value)
        opened = value[: 3 * width]
        opened += 1
        opened *= 0.5
        cell = opened[width : 2 * width] * state[depth + place].numpy()[0]
        cell += opened[:width] * value[3 * width :]
        out = np.tanh(cell)
        out *= opened[2 * width :]
        hidden.append(torch.from_numpy(out)[None])
        cells.append(torch.from_numpy(cell)[None])
    return hidden[-1], (*hidden, *cells)


def gru(
    layers: Sequence[tuple[Tensor, ...]], gates: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One step: the output (1 d) and the next state; ``gates`` (1 g) is the first layer's input."""
    width = state[0].shape[1]
    coming, out = gates.numpy()[0], None
    hidden = []
    for place, (*taken, kept, bias) in enumerate(layers):
        if out is not None:
            coming = taken[0].numpy() @ out
            coming += taken[1].numpy()[0]
        before = state[place].numpy()[0]
        own = kept.numpy() @ before
        own += bias.numpy()[0]
        opened = coming[: 2 * width] + own[: 2 * width]
        np.tanh(opened, out=opened)
        opened += 1
        opened *= 0.5
        new = own[2 * width :] * opened[:width]
        new += coming[2 * width :]
        np.tanh(new, out=new)
        out = before - new
        out *= opened[width:]
        out += new
        hidden.append(torch.from_numpy(out)[None])
    return hidden[-1], tuple(hidden)
