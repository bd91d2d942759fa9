"""Fast single steps of a recurrent network: everything constant is computed before the first step.

A step of ``nn.GRU`` or ``nn.LSTM`` repacks all weights for oneDNN and multiplies the embedding with the first layer's input
weights.  Here the product of the embedding and these weights is a table, of which a step reads one row, and a layer is one
``addmm`` (two in a GRU's upper layers, because of the reset gate).  One sequence on a CPU is computed with NumPy
(kernels/recurrent_numpy.py).  The results are those of torch's modules up to rounding; no gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reprkit.kernels import recurrent_numpy
from reprkit.layers.value_embedding import ValueEmbedding
from reprkit.utils.precision import without_autocast

TABLE = 4096  # largest vocabulary with a table: a larger table would cost more than most generations save

State = tuple[Tensor, ...]


@torch.no_grad()
def pack_weights(net: nn.GRU | nn.LSTM, values: ValueEmbedding, size: int = 2) -> dict[str, Any]:
    """Precompute what the steps of ``size`` sequences need: tensors and flags only, so that a decoder's state stays a pytree.

    ``first`` is the gates' input at the first token (1 g), ``table`` that of every symbol (v g), or ``lift`` (p g) and
    ``bias`` (1 g) for real values and large vocabularies; ``down`` (d g) projects the context, which is added to the tokens;
    ``layers`` are the recurrent weights, stored in reading order, since memory bandwidth limits a step; ``alone`` is true if
    the steps use NumPy.
    """
    with without_autocast(net.all_weights[0][0].device):
        return _pack_weights(net, values, recurrent_numpy.is_supported(net, size))


def _pack_weights(net: nn.GRU | nn.LSTM, values: ValueEmbedding, alone: bool) -> dict[str, Any]:
    lstm = isinstance(net, nn.LSTM)
    order = _sigmoids_first(net.hidden_size) if lstm else torch.arange(3 * net.hidden_size)

    def read(weights: Sequence[Tensor]) -> list[Tensor]:
        ordered = [weight.detach()[order] for weight in weights]
        return (
            [
                recurrent_numpy.halve_sigmoid_weights(weight, net.hidden_size, 3 if lstm else 2)
                for weight in ordered
            ]
            if alone
            else ordered
        )

    def arrange(weight: Tensor) -> Tensor:
        return weight.contiguous() if alone else weight.t().contiguous()

    layers: list[tuple[Tensor, ...]] = []
    for weights in net.all_weights:
        input_weight, hidden_weight, bias, other = read(weights)
        if lstm and layers:
            layers.append((arrange(torch.cat([input_weight, hidden_weight], 1)), (bias + other)[None]))
        elif lstm:
            layers.append((arrange(hidden_weight),))
        elif layers:
            layers.append((arrange(input_weight), bias[None], arrange(hidden_weight), other[None]))
        else:
            layers.append((arrange(hidden_weight), other[None]))
    input_weight, _, bias, other = read(net.all_weights[0])
    down, bias = input_weight.t().contiguous(), (bias + other if lstm else bias)[None]
    pack: dict[str, Any] = {"layers": layers, "down": down, "alone": alone}
    pack["first"] = torch.addmm(bias, values.start(1)[0].detach(), down)
    if not values.discrete:  # linear after linear is linear
        pack["lift"] = values.embed.weight.detach().t() @ down
        pack["bias"] = bias + values.embed(down.new_zeros(1, values.values)) @ down
    elif len(values.embed.weight) <= TABLE:
        pack["table"] = torch.addmm(bias, values.embed.weight.detach(), down)
    else:
        pack["lift"], pack["bias"] = down, bias
    return pack


def initial_state(net: nn.GRU | nn.LSTM, size: int) -> State:
    """Return the state before the first token: h of every layer (b d), followed by c of every layer for an LSTM."""
    count = net.num_layers * (2 if isinstance(net, nn.LSTM) else 1)
    like = net.all_weights[0][1]
    return tuple(like.new_zeros(size, net.hidden_size) for _ in range(count))


def advance(
    pack: dict[str, Any],
    values: ValueEmbedding,
    previous: Tensor | None,
    state: State,
    context: Float[Tensor, "b d"] | None = None,
    valid: Bool[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b d"], State]:
    """Compute one step: its output and the next state; where ``valid`` is False, the output is 0 and the state is unchanged.

    Args:
        pack: the result of ``pack_weights``.
        values: the embedding that was passed to ``pack_weights``.
        previous: the previous token (b 1 p); None at the first step.
        state: the state of ``initial_state``, or of the previous step.
        context: a vector that is added to the embedding, such as the code's token.
        valid: which examples have a token at this step; None: all.
    """
    with without_autocast(pack["first"].device):
        gates = _input_gates(pack, values, previous)
        if context is not None:
            gates = torch.addmm(gates, context.to(gates.dtype), pack["down"])
        lstm = len(state) > len(pack["layers"])
        if pack["alone"]:
            out, after = (recurrent_numpy.lstm if lstm else recurrent_numpy.gru)(pack["layers"], gates, state)
        else:
            out, after = (_lstm_step if lstm else _gru_step)(pack, gates, state)
        if valid is None:
            return out, after
        row = valid[:, None]
        updated = tuple(torch.where(row, new, old) for new, old in zip(after, state, strict=True))
        return out * row.to(out.dtype), updated


def _input_gates(pack: dict[str, Any], values: ValueEmbedding, previous: Tensor | None) -> Tensor:
    if previous is None:
        return pack["first"]
    if "table" in pack:
        return pack["table"].index_select(0, previous.view(-1))
    if values.discrete:
        inputs = values.embed.weight.index_select(0, previous.view(-1))
    else:
        inputs = values.rescale(previous[:, 0]).to(pack["lift"].dtype)
    return torch.addmm(pack["bias"], inputs, pack["lift"])


def _lstm_step(pack: dict[str, Any], gates: Tensor, state: State) -> tuple[Tensor, State]:
    depth, width = len(pack["layers"]), state[0].shape[1]
    hidden, cells, out = [], [], None
    for layer, (weight, *bias) in enumerate(pack["layers"]):
        if out is None:
            gates = torch.addmm(gates, state[0], weight)
        else:
            gates = torch.addmm(bias[0], torch.cat([out, state[layer]], 1), weight)
        gate_values = torch.sigmoid(gates[:, : 3 * width])
        input_gate, forget_gate, output_gate = gate_values.split(width, 1)
        cell = torch.addcmul(forget_gate * state[depth + layer], input_gate, gates[:, 3 * width :].tanh())
        out = output_gate * cell.tanh()
        hidden.append(out)
        cells.append(cell)
    assert out is not None
    return out, (*hidden, *cells)


def _gru_step(pack: dict[str, Any], gates: Tensor, state: State) -> tuple[Tensor, State]:
    width = state[0].shape[1]
    hidden, out = [], None
    for layer, (*input_weight, hidden_weight, bias) in enumerate(pack["layers"]):
        if out is not None:
            gates = torch.addmm(input_weight[1], out, input_weight[0])
        before = state[layer]
        recurrent = torch.addmm(bias, before, hidden_weight)
        gate_values = torch.sigmoid(gates[:, : 2 * width] + recurrent[:, : 2 * width])
        reset, update = gate_values.split(width, 1)
        new = torch.addcmul(gates[:, 2 * width :], reset, recurrent[:, 2 * width :]).tanh()
        out = torch.lerp(new, before, update)
        hidden.append(out)
    assert out is not None
    return out, tuple(hidden)


def _sigmoids_first(width: int) -> Tensor:
    """Return the rows of torch's gates (input, forget, cell, output) with the cell's last: one sigmoid for the other three."""
    input_, forget, cell, output = torch.arange(4 * width).chunk(4)
    return torch.cat([input_, forget, output, cell])
