"""A recurrent network one token at a time, fast: what does not change is worked out before the first step.

A step of ``nn.GRU`` or ``nn.LSTM`` repacks all weights for oneDNN and reads a vocabulary's embedding through the first layer's
input weights.  Here the embedding's product with these weights is a table, of which a step takes one row, and a layer is one
``addmm`` (a GRU's upper layers two: its reset gate stands between them).  One sequence on a CPU goes through NumPy
(layers/single.py).  Same numbers, up to rounding; no gradients.
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

TABLE = 4096  # a larger vocabulary's table would cost more than most generations save

State = tuple[Tensor, ...]


@torch.no_grad()
def pack_weights(net: nn.GRU | nn.LSTM, values: ValueEmbedding, size: int = 2) -> dict[str, Any]:
    """What the steps of ``size`` sequences need: tensors and flags only, so that a decoder's state stays a pytree.

    ``first`` is the gates' input at the first token (1 g), ``table`` those of every symbol (v g), or ``lift`` (p g) and
    ``bias`` (1 g) for real values and large vocabularies; ``down`` (d g) is for what comes beside the tokens, ``layers``
    the recurrent weights, laid out as they are read, since memory decides how long a step takes.
    """
    with without_autocast(net.all_weights[0][0].device):
        return _pack_weights(net, values, recurrent_numpy.is_supported(net, size))


def _pack_weights(net: nn.GRU | nn.LSTM, values: ValueEmbedding, alone: bool) -> dict[str, Any]:
    lstm = isinstance(net, nn.LSTM)
    order = _sigmoids_first(net.hidden_size) if lstm else torch.arange(3 * net.hidden_size)

    def read(weights: Sequence[Tensor]) -> list[Tensor]:
        ordered = [each.detach()[order] for each in weights]
        return (
            [
                recurrent_numpy.halve_sigmoid_weights(each, net.hidden_size, 3 if lstm else 2)
                for each in ordered
            ]
            if alone
            else ordered
        )

    def laid(weight: Tensor) -> Tensor:
        return weight.contiguous() if alone else weight.t().contiguous()

    layers: list[tuple[Tensor, ...]] = []
    for weights in net.all_weights:
        taken, kept, bias, other = read(weights)
        if lstm and layers:
            layers.append((laid(torch.cat([taken, kept], 1)), (bias + other)[None]))
        elif lstm:
            layers.append((laid(kept),))
        elif layers:
            layers.append((laid(taken), bias[None], laid(kept), other[None]))
        else:
            layers.append((laid(kept), other[None]))
    taken, _, bias, other = read(net.all_weights[0])
    down, bias = taken.t().contiguous(), (bias + other if lstm else bias)[None]
    found: dict[str, Any] = {"layers": layers, "down": down, "alone": alone}
    found["first"] = torch.addmm(bias, values.start(1)[0].detach(), down)
    if not values.discrete:  # linear after linear is linear
        found["lift"] = values.embed.weight.detach().t() @ down
        found["bias"] = bias + values.embed(down.new_zeros(1, values.values)) @ down
    elif len(values.embed.weight) <= TABLE:
        found["table"] = torch.addmm(bias, values.embed.weight.detach(), down)
    else:
        found["lift"], found["bias"] = down, bias
    return found


def initial_state(net: nn.GRU | nn.LSTM, size: int) -> State:
    """The state before the first token: h of every layer (b d), and an LSTM's c after them."""
    count = net.num_layers * (2 if isinstance(net, nn.LSTM) else 1)
    like = net.all_weights[0][1]
    return tuple(like.new_zeros(size, net.hidden_size) for _ in range(count))


def advance(
    pack: dict[str, Any],
    values: ValueEmbedding,
    previous: Tensor | None,
    state: State,
    beside: Float[Tensor, "b d"] | None = None,
    valid: Bool[Tensor, " b"] | None = None,
) -> tuple[Float[Tensor, "b d"], State]:
    """One step: its output and the next state, which stays (and the output is 0) where ``valid`` is False.

    Args:
        pack: what ``pack_weights`` made.
        values: the embedding that it was made with.
        previous: the token before (b 1 p); None at the first.
        state: of ``initial_state``, or of the step before.
        beside: what is added to the embedding, such as the code's token.
        valid: which examples have a token here; None: all.
    """
    with without_autocast(pack["first"].device):
        gates = _input_gates(pack, values, previous)
        if beside is not None:
            gates = torch.addmm(gates, beside.to(gates.dtype), pack["down"])
        lstm = len(state) > len(pack["layers"])
        if pack["alone"]:
            out, after = (recurrent_numpy.lstm if lstm else recurrent_numpy.gru)(pack["layers"], gates, state)
        else:
            out, after = (_lstm_step if lstm else _gru_step)(pack, gates, state)
        if valid is None:
            return out, after
        row = valid[:, None]
        kept = tuple(torch.where(row, new, old) for new, old in zip(after, state, strict=True))
        return out * row.to(out.dtype), kept


def _input_gates(pack: dict[str, Any], values: ValueEmbedding, previous: Tensor | None) -> Tensor:
    if previous is None:
        return pack["first"]
    if "table" in pack:
        return pack["table"].index_select(0, previous.view(-1))
    if values.discrete:
        seen = values.embed.weight.index_select(0, previous.view(-1))
    else:
        seen = values.rescale(previous[:, 0]).to(pack["lift"].dtype)
    return torch.addmm(pack["bias"], seen, pack["lift"])


def _lstm_step(pack: dict[str, Any], gates: Tensor, state: State) -> tuple[Tensor, State]:
    depth, width = len(pack["layers"]), state[0].shape[1]
    hidden, cells, out = [], [], None
    for place, (weight, *bias) in enumerate(pack["layers"]):
        if out is None:
            gates = torch.addmm(gates, state[0], weight)
        else:
            gates = torch.addmm(bias[0], torch.cat([out, state[place]], 1), weight)
        open_ = torch.sigmoid(gates[:, : 3 * width])
        take, forget, show = open_.split(width, 1)
        cell = torch.addcmul(forget * state[depth + place], take, gates[:, 3 * width :].tanh())
        out = show * cell.tanh()
        hidden.append(out)
        cells.append(cell)
    assert out is not None
    return out, (*hidden, *cells)


def _gru_step(pack: dict[str, Any], gates: Tensor, state: State) -> tuple[Tensor, State]:
    width = state[0].shape[1]
    hidden, out = [], None
    for place, (*taken, kept, bias) in enumerate(pack["layers"]):
        if out is not None:
            gates = torch.addmm(taken[1], out, taken[0])
        before = state[place]
        own = torch.addmm(bias, before, kept)
        open_ = torch.sigmoid(gates[:, : 2 * width] + own[:, : 2 * width])
        reset, stay = open_.split(width, 1)
        new = torch.addcmul(gates[:, 2 * width :], reset, own[:, 2 * width :]).tanh()
        out = torch.lerp(new, before, stay)
        hidden.append(out)
    assert out is not None
    return out, tuple(hidden)


def _sigmoids_first(width: int) -> Tensor:
    """Rows of torch's gates (input, forget, cell, output) with the cell's last: one sigmoid for the other three."""
    take, forget, new, show = torch.arange(4 * width).chunk(4)
    return torch.cat([take, forget, show, new])
