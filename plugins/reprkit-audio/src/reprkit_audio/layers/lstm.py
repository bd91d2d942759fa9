"""LSTM over real frames only, in one or both directions."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from reprkit.layers.recurrent import run_recurrent
from reprkit_audio.layers.frames import Mask


class LSTM(nn.Module):
    """Hochreiter and Schmidhuber 1997, ``depth`` layers: (b t d) to (b t out_dim).

    The backward direction begins at the last real frame: frames are reversed per example by indexing, without control flow
    that depends on mask values, so that it can be exported.  Padding must come after the real frames.

    Attributes:
        out_dim: ``width``, or twice that in both directions, the forward one first.
    """

    def __init__(self, in_dim: int, width: int, *, depth: int = 1, both: bool = False) -> None:
        super().__init__()
        self.out_dim = 2 * width if both else width
        widths = [in_dim] + [self.out_dim] * (depth - 1)
        self.ahead = nn.ModuleList(nn.LSTM(each, width, batch_first=True) for each in widths)
        self.back = nn.ModuleList(nn.LSTM(each, width, batch_first=True) for each in widths if both)

    def forward(self, x: Float[Tensor, "b t d"], mask: Mask = None) -> Float[Tensor, "b t e"]:
        """Return the states; those at padding are undefined."""
        mirrored = _reversed_indices(x, mask) if self.back else None
        for index, layer in enumerate(self.ahead):
            out = run_recurrent(layer, x)[0]
            if mirrored is not None:
                order = mirrored.unsqueeze(-1)
                reverse = run_recurrent(self.back[index], x.gather(1, order.expand_as(x)))[0]
                out = torch.cat([out, reverse.gather(1, order.expand_as(reverse))], -1)
            x = out
        return x


def _reversed_indices(x: Tensor, mask: Mask) -> Int[Tensor, "b t"]:
    """Index of each frame's mirror image among the real frames; padding keeps its place."""
    places = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
    if mask is None:
        return x.shape[1] - 1 - places
    counts = mask.sum(1, keepdim=True)
    return torch.where(places < counts, counts - 1 - places, places)
