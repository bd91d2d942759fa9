"""Frames of the target's own recordings, found by the content of the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_BLOCK = 1024  # tokens of the source that are compared at a time


@dataclass(frozen=True, kw_only=True)
class FramePool:
    """All tokens of some recordings: the content of each, and the frames that it covers.

    Attributes:
        content: of unit length (n d).
        frames: those of each token, ``s`` a token (n s c).
    """

    content: Float[Tensor, "n d"]
    frames: Float[Tensor, "n s c"]

    @classmethod
    def of(
        cls, contents: Sequence[Float[Tensor, "n d"]], frames: Sequence[Float[Tensor, "t c"]], stride: int
    ) -> FramePool:
        """Join recordings; a last token that covers fewer than ``stride`` frames repeats its last one."""
        blocks = [
            _in_blocks(own, stride, len(content)) for content, own in zip(contents, frames, strict=True)
        ]
        return cls(content=F.normalize(torch.cat(list(contents)), dim=-1), frames=torch.cat(blocks))

    def nearest(self, content: Float[Tensor, "m d"], count: int) -> Float[Tensor, "m s c"]:
        """Mean frames of the ``count`` tokens whose content has the largest cosine similarity to each given one.

        kNN-VC (Baas et al. 2023, arXiv 2305.18975, section 3).  All tokens are averaged where there are fewer.
        """
        wanted = F.normalize(content, dim=-1)
        most = min(count, len(self.content))
        found = [
            self.frames[block.matmul(self.content.T).topk(most, dim=-1).indices].mean(1)
            for block in wanted.split(_BLOCK)
        ]
        return torch.cat(found)


def _in_blocks(frames: Float[Tensor, "t c"], stride: int, count: int) -> Float[Tensor, "n s c"]:
    missing = count * stride - len(frames)
    padded = torch.cat([frames, frames[-1:].expand(missing, -1)]) if missing else frames
    return padded.view(count, stride, -1)
