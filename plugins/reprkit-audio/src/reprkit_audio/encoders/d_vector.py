"""Speaker encoder of speaker verification (d-vector): the last state of an LSTM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from reprkit import Encoder, Features, Signature
from reprkit.layers.value_embedding import Rescale
from reprkit.registry.constraints import Depth, Width
from reprkit.types import Batch
from reprkit_audio.layers.frames import frame_channels, refuse_keep
from reprkit_audio.layers.lstm import LSTM

_PART = "encoder d-vector"


class DVectorEncoder(Encoder):
    """The speaker encoder of AutoVC (Qian et al. 2019, arXiv 1905.05879, section 4.1; Wan et al. 2018, arXiv 1710.10467).

    LSTM layers and a linear map of the last state, scaled to unit length: one token per utterance (b 1 dim); use it in a
    factor with ``pool=True``.  Objective ``ge2e`` trains it.

    Args:
        width: of the LSTM's state; the paper has 768.
        depth: LSTM layers.
        dim: of the vector; the paper has 256.
        data: the signature of the input, field ``x``, a sequence (t c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not a sequence of frames.
    """

    def __init__(self, width: Width = 128, *, depth: Depth = 2, dim: Width = 64, data: Signature) -> None:
        super().__init__()
        channels = frame_channels(data, _PART)
        self.out_dim = dim
        self.rescale = Rescale(data["x"])
        self.lstm = LSTM(channels, width, depth=depth)
        self.linear = nn.Linear(width, dim)

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Encode an utterance as one token of unit length (b 1 dim).

        Raises:
            BuildError: ``keep`` is given: the encoder reads all frames.
        """
        refuse_keep(keep, _PART)
        x, mask = self.lstm(self.rescale(batch["x"])), batch.get("x_mask")
        if mask is None:
            last = x[:, -1]
        else:
            index = (mask.sum(1) - 1).clamp(min=0)[:, None, None]
            last = torch.take_along_dim(x, index, 1).squeeze(1)
        return Features(x=F.normalize(self.linear(last), dim=-1).unsqueeze(1), grid=(1,))

    def count(self, batch: Batch) -> int:
        """One."""
        return 1

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """(1,)."""
        return (1,)
