"""Speaker encoder: one vector per utterance, from convolutions without instance norm."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor, nn

from reprkit import Encoder, Features, Signature
from reprkit.layers.value_embedding import Rescale
from reprkit.registry.constraints import Depth, DepthOrZero, Width
from reprkit.types import Batch
from reprkit_audio.layers.convolution import Bank, Convolution
from reprkit_audio.layers.frames import (
    downsample_mask,
    frame_channels,
    masked_mean,
    mean_pool,
    refuse_keep,
    time_last,
)

_PART = "encoder voice"


class VoiceEncoder(Encoder):
    """The speaker encoder of one-shot conversion (Chou et al. 2019, arXiv 1904.05742, section 3.3 and table 5).

    A bank of convolutions and residual blocks without any norm, each halving the frames; then the mean over time and
    residual linear layers.  One token per utterance (b 1 width); use it in a factor with ``pool=True``.

    Args:
        width: channels.
        depth: residual blocks; each halves the number of frames.
        layers: residual linear layers after the mean.
        data: the signature of the input, field ``x``, a sequence (t c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not a sequence of frames.
    """

    def __init__(
        self, width: Width = 128, *, depth: Depth = 4, layers: DepthOrZero = 2, data: Signature
    ) -> None:
        super().__init__()
        self.out_dim = width
        self.rescale = Rescale(data["x"])
        self.bank = Bank(frame_channels(data, _PART), max(1, width // 4))
        self.enter = Convolution(self.bank.out_dim, width, 1)
        self.first = nn.ModuleList(Convolution(width, width) for _ in range(depth))
        self.second = nn.ModuleList(Convolution(width, width) for _ in range(depth))
        self.dense = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(layers)
        )

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Encode an utterance as one token (b 1 width).

        Raises:
            BuildError: ``keep`` is given: the encoder reads all frames.
        """
        refuse_keep(keep, _PART)
        mask = batch.get("x_mask")
        x = time_last(self.rescale(batch["x"]))
        x = torch.relu(self.enter(self.bank(x, mask), mask))
        for first, second in zip(self.first, self.second, strict=True):
            y = mean_pool(torch.relu(first(x, mask)), mask, 2)
            x, mask = mean_pool(x, mask, 2), downsample_mask(mask, 2)
            x = x + torch.relu(second(y, mask))
        voice = masked_mean(x, mask)
        for layer in self.dense:
            voice = voice + layer(voice)
        return Features(x=voice.unsqueeze(1), grid=(1,))

    def count(self, batch: Batch) -> int:
        """One."""
        return 1

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """(1,)."""
        return (1,)
