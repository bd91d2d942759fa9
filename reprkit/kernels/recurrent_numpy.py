"""Steps of a recurrent network for one sequence on a CPU, where NumPy's calls cost less than torch's.

At a width of 512 most of a step's time is reading the weights, which NumPy's matrix-vector product does fastest; at 128 most
of it is call overhead.  Since sigmoid(x) = (tanh(x / 2) + 1) / 2, the weights of the gates that have a sigmoid are halved
beforehand, which is exact, and one ``tanh`` serves all gates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


def is_supported(net: nn.GRU | nn.LSTM, size: int) -> bool:
    """Return whether these functions can step ``size`` sequences of this network."""
    weight = net.all_weights[0][0]
    return size == 1 and weight.device.type == "cpu" and weight.dtype == torch.float32


def halve_sigmoid_weights(rows: Tensor, width: int, gates: int) -> Tensor:
    """Halve the weights (g ...) of the first ``gates`` gates, the sigmoids, in place."""
    rows[: gates * width] /= 2
    return rows


def lstm(
    layers: Sequence[tuple[Tensor, ...]], gates: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute one step: the output (1 d) and the next state; ``gates`` (1 g) is the first layer's input."""
    depth, width = len(layers), state[0].shape[1]
    inputs, out = gates.numpy()[0], None
    hidden, cells = [], []
    for layer, (weight, *bias) in enumerate(layers):
        read = state[layer].numpy()[0]
        if out is not None:
            read, inputs = np.concatenate([out, read]), bias[0].numpy()[0]
        value = weight.numpy() @ read
        value += inputs
        np.tanh(value, out=value)
        gate_values = value[: 3 * width]
        gate_values += 1
        gate_values *= 0.5
        cell = gate_values[width : 2 * width] * state[depth + layer].numpy()[0]
        cell += gate_values[:width] * value[3 * width :]
        out = np.tanh(cell)
        out *= gate_values[2 * width :]
        hidden.append(torch.from_numpy(out)[None])
        cells.append(torch.from_numpy(cell)[None])
    return hidden[-1], (*hidden, *cells)


def gru(
    layers: Sequence[tuple[Tensor, ...]], gates: Tensor, state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute one step: the output (1 d) and the next state; ``gates`` (1 g) is the first layer's input."""
    width = state[0].shape[1]
    inputs, out = gates.numpy()[0], None
    hidden = []
    for layer, (*input_weight, hidden_weight, bias) in enumerate(layers):
        if out is not None:
            inputs = input_weight[0].numpy() @ out
            inputs += input_weight[1].numpy()[0]
        before = state[layer].numpy()[0]
        recurrent = hidden_weight.numpy() @ before
        recurrent += bias.numpy()[0]
        gate_values = inputs[: 2 * width] + recurrent[: 2 * width]
        np.tanh(gate_values, out=gate_values)
        gate_values += 1
        gate_values *= 0.5
        new = recurrent[2 * width :] * gate_values[:width]
        new += inputs[2 * width :]
        np.tanh(new, out=new)
        out = before - new
        out *= gate_values[width:]
        out += new
        hidden.append(torch.from_numpy(out)[None])
    return hidden[-1], tuple(hidden)
