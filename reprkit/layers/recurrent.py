"""A gated recurrent network in which tokens that are not valid take no part."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from reprkit.layers.checks import switch, whole


class Recurrent(nn.Module):
    """``depth`` GRU layers (Cho et al. 2014, arXiv 1406.1078): forward when causal, else both directions.

    Attributes:
        out_dim: ``width``, or twice that in both directions.
    """

    def __init__(self, width: int, *, depth: int, causal: bool) -> None:
        super().__init__()
        whole("width", width)
        whole("depth", depth)
        switch("causal", causal)
        self.causal = causal
        self.out_dim = width if causal else 2 * width
        self.gru = nn.GRU(width, width, num_layers=depth, batch_first=True, bidirectional=not causal)

    def forward(
        self, x: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b n e"]:
        """(b n width) to (b n out_dim); where ``mask`` is False the output is 0 and the state passes by."""
        x = x.to(self.bias().dtype)  # under autocast on the CPU the GRU stays in its own precision
        if mask is None:
            return self.gru(x)[0]
        # Valid tokens first, in their order, whatever the mask looks like: padding then comes after them.
        order = (~mask).long().argsort(dim=1, stable=True)
        x = _taken(x, order)
        if self.causal:
            out = self.gru(x)[0]
        elif torch.compiler.is_exporting():  # packing depends on the values of the mask
            out = self._turned(x, mask.sum(1, keepdim=True))
        else:
            lengths = mask.sum(1).clamp(min=1).cpu()  # packing wants them there; an empty row is masked below
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            out = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.shape[1])[0]
        out = _taken(out, order.argsort(dim=1))
        return out * mask.unsqueeze(-1).to(out.dtype)

    def _turned(self, x: Float[Tensor, "b n d"], counts: Int[Tensor, "b 1"]) -> Float[Tensor, "b n e"]:
        """Both directions over the first ``counts`` tokens, the second on tokens turned round: plain operations only."""
        places = torch.arange(x.shape[1], device=x.device)
        turned = torch.where(places < counts, counts - 1 - places, places)
        nothing = x.new_zeros(1, x.shape[0], self.gru.hidden_size)
        for ahead, back in zip(self.gru.all_weights[::2], self.gru.all_weights[1::2], strict=True):
            # One layer, one direction: (biases, layers, dropout, training, bidirectional, batch_first).
            how = (True, 1, 0.0, False, False, True)
            one = torch.gru(x, nothing, tuple(ahead), *how)[0]
            other = torch.gru(_taken(x, turned), nothing, tuple(back), *how)[0]
            x = torch.cat([one, _taken(other, turned)], -1)
        return x

    def bias(self) -> Tensor:
        """A parameter, for its type and device."""
        return next(self.gru.parameters())

    def state(self, size: int) -> Float[Tensor, "layers b d"]:
        """The state before the first token."""
        return self.bias().new_zeros(self.gru.num_layers, size, self.gru.hidden_size)

    def step(self, x: Tensor, state: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One token (b 1 width): its output and the next state, which stays where ``valid`` (b) is False."""
        out, after = self.gru(x.to(state.dtype), state)
        if valid is not None:
            out = out * valid[:, None, None].to(out.dtype)
            after = torch.where(valid[None, :, None], after, state)
        return out, after


def _taken(x: Float[Tensor, "b n d"], order: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
    """Each example's tokens in another order (``take_along_dim`` would fix their number when exported)."""
    return x.gather(1, order.unsqueeze(-1).expand_as(x))
