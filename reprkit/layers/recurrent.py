"""A gated recurrent network that skips invalid tokens."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from reprkit.layers.dropout import Dropout
from reprkit.utils.precision import without_autocast

# oneDNN has no LSTM in bfloat16 for a CPU that cannot compute in it, nor in any other type that autocast may ask for.
_BFLOAT16_LSTM = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))

State = Tensor | tuple[Tensor, Tensor]


def run_recurrent(net: nn.Module, x: Any, state: Any = None) -> Any:
    """Call ``net(x, state)`` so that it also runs under autocast: the way to call any recurrent network.

    The input takes the type of the weights, as autocast leaves both to the network.  On a CPU without an LSTM in
    autocast's precision, an LSTM computes in the type of its weights.

    Args:
        net: an ``nn.GRU`` or ``nn.LSTM``.
        x: a tensor or a PackedSequence.
        state: before the first token; zeros if None.

    Returns:
        The network's output and state.
    """
    weight = next(net.parameters())
    x = x.to(weight.dtype)
    if not isinstance(net, nn.LSTM):
        return net(x, state)
    with _lstm_precision(weight.device):
        return net(x, state)


def _lstm_precision(device: torch.device) -> AbstractContextManager[None]:
    """A block without autocast where the device has no LSTM in autocast's precision."""
    if device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return nullcontext()
    if _BFLOAT16_LSTM and torch.get_autocast_dtype("cpu") == torch.bfloat16:
        return nullcontext()
    return without_autocast(device)


class Recurrent(nn.Module):
    """``depth`` layers of gated cells: forward when causal, else in both directions.

    Cells: "gru" (Cho et al. 2014, arXiv 1406.1078) or "lstm" (Hochreiter and Schmidhuber 1997, with the forget gate of
    Gers et al. 2000).  ``dropout`` applies to the input and the output, not to the state (Zaremba et al. 2014, arXiv
    1409.2329, except between layers, where cuDNN would draw it for each rank separately).

    Attributes:
        in_dim: width of the input tokens: ``embedding``, or ``width`` if that is None.
        out_dim: width of the output: ``width``, or twice that for both directions.
        net: torch's module, in the attribute ``gru`` or ``lstm``.
    """

    def __init__(
        self,
        width: int,
        *,
        depth: int,
        causal: bool,
        cell: Literal["gru", "lstm"] = "gru",
        dropout: float = 0.0,
        embedding: int | None = None,
    ) -> None:
        super().__init__()
        self.in_dim = width if embedding is None else embedding
        self.causal, self.cell = causal, cell
        self.out_dim = width if causal else 2 * width
        network = nn.GRU if cell == "gru" else nn.LSTM
        self.add_module(
            cell,
            network(self.in_dim, width, num_layers=depth, batch_first=True, bidirectional=not causal),
        )
        self.drop = Dropout(dropout)
        if cell == "lstm":
            _open_forget_gates(self.net)

    @property
    def net(self) -> nn.GRU | nn.LSTM:
        """The wrapped ``nn.GRU`` or ``nn.LSTM``."""
        return cast("nn.GRU | nn.LSTM", getattr(self, self.cell))

    def forward(
        self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b n e"]:
        """(b n in_dim) to (b n out_dim); where ``mask`` is False the output is 0 and the state passes by."""
        return self.drop(self._run(self.drop(x), mask))

    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x.to(next(self.net.parameters()).dtype)
        if mask is None:
            return run_recurrent(self.net, x)[0]
        # Move valid tokens to the front, in order, for any mask: padding then comes last.
        order = (~mask).long().argsort(dim=1, stable=True)
        x = _reorder(x, order)
        if self.causal:
            out = run_recurrent(self.net, x)[0]
        elif torch.compiler.is_exporting():  # packing depends on the values of the mask
            with _lstm_precision(x.device) if self.cell == "lstm" else nullcontext():
                out = self._run_bidirectional(x, mask.sum(1, keepdim=True))
        else:
            # Packing needs the lengths on the CPU; an empty row is masked below.
            lengths = mask.sum(1).clamp(min=1).cpu()
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            out = pad_packed_sequence(
                run_recurrent(self.net, packed)[0], batch_first=True, total_length=x.shape[1]
            )[0]
        out = _reorder(out, order.argsort(dim=1))
        return out * mask.unsqueeze(-1).to(out.dtype)

    def _run_bidirectional(
        self, x: Float[Tensor, "b n d"], counts: Int[Tensor, "b 1"]
    ) -> Float[Tensor, "b n e"]:
        """Run both directions over the first ``counts`` tokens, the second on reversed tokens, with exportable operations only."""
        positions = torch.arange(x.shape[1], device=x.device)
        reversed_ = torch.where(positions < counts, counts - 1 - positions, positions)
        zeros = x.new_zeros(1, x.shape[0], self.net.hidden_size)
        run: Any = torch.gru if self.cell == "gru" else torch.lstm
        before = zeros if self.cell == "gru" else (zeros, zeros)
        for forward, backward in zip(self.net.all_weights[::2], self.net.all_weights[1::2], strict=True):
            # One layer, one direction: (biases, layers, dropout, training, bidirectional, batch_first).
            options = (True, 1, 0.0, False, False, True)
            ahead = run(x, before, tuple(forward), *options)[0]
            back = run(_reorder(x, reversed_), before, tuple(backward), *options)[0]
            x = torch.cat([ahead, _reorder(back, reversed_)], -1)
        return x

    def state(self, size: int) -> State:
        """Return the state before the first token (layers b d); for an LSTM a pair, output and cell state."""
        weight = next(self.net.parameters())
        zeros = weight.new_zeros(self.net.num_layers, size, self.net.hidden_size)
        return zeros if self.cell == "gru" else (zeros, zeros.clone())

    def step(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Process one token (b 1 in_dim): its output and the next state, which is unchanged where ``valid`` (b) is False.

        With gradients; ``reprkit.kernels.recurrent_step`` is the fast version without.
        """
        out, after = run_recurrent(self.net, x, state)
        if valid is None:
            return out, after
        out, row = out * valid[:, None, None].to(out.dtype), valid[None, :, None]
        if isinstance(state, Tensor):
            return out, torch.where(row, after, state)
        return out, (torch.where(row, after[0], state[0]), torch.where(row, after[1], state[1]))


def _open_forget_gates(net: nn.GRU | nn.LSTM) -> None:
    """Initialize forget gates as open, with a bias of 1 (Jozefowicz et al. 2015, section 3.3)."""
    width = net.hidden_size
    for name, bias in net.named_parameters():
        if name.startswith("bias_ih"):
            nn.init.ones_(bias.data[width : 2 * width])
        if name.startswith("bias_hh"):
            nn.init.zeros_(bias.data[width : 2 * width])


def _reorder(x: Float[Tensor, "b n d"], order: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
    """Reorder each example's tokens (``take_along_dim`` would fix their number when exported)."""
    return x.gather(1, order.unsqueeze(-1).expand_as(x))
