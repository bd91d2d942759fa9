"""Mask patches of an image or a map of symbols."""

from __future__ import annotations

import torch
from einops import repeat
from torch import Tensor

from reprkit.corruptions.base import MaskingCorruption, draw_uniform
from reprkit.data.signature import Signature
from reprkit.errors import BuildError
from reprkit.registry.constraints import Count, Real, Share


class MaskPatches(MaskingCorruption):
    """Mask the same number of patches in every image, chosen at random, in all channels; those of a map by the mask symbol.

    Of n patches round(ratio * n) are masked.  Unlike the ``masked`` objective, which does not pass hidden
    patches to the encoder, the image keeps its size, so any encoder can read it.

    Args:
        ratio: fraction of the patches to mask, in [0, 1].
        patch: side of a patch in pixels, or (height, width); must divide the image.
        value: value of masked pixels, in data units.
        data: the signature of the data.

    Raises:
        PartArgumentError: an argument out of range.
        BuildError: the data is neither images nor maps, or the patch does not divide them.

    Source: He et al. 2021, arXiv 2111.06377, section 3; masking the input: Pathak et al. 2016, arXiv 1604.07379.
    """

    kinds = ("image", "map")
    advice = "mask steps of a sequence with mask-spans, elements of a vector with mask-elements"

    def __init__(
        self,
        ratio: Share = 0.75,
        *,
        patch: Count | tuple[Count, Count] = 2,
        value: Real = 0.0,
        data: Signature | None = None,
    ) -> None:
        super().__init__(value, data)
        self.ratio = ratio
        self.patch = patch if isinstance(patch, tuple) else (patch, patch)
        if self.field is not None:
            self._grid(int(self.field.shape[0] or 0), int(self.field.shape[1] or 0))

    def choose(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Choose the patches with the smallest of n uniform numbers, and expand them to pixels."""
        if x.ndim != (4 if x.is_floating_point() else 3):
            raise BuildError(f"mask-patches reads images (b h w c) and maps (b h w), not {tuple(x.shape)}")
        rows, columns = self._grid(x.shape[1], x.shape[2])
        noise = draw_uniform((len(x), rows * columns), x, generator)
        hidden = noise.argsort(1).argsort(1) < round(self.ratio * rows * columns)
        cells = repeat(hidden, "b (r c) -> b (r h) (c w)", r=rows, h=self.patch[0], w=self.patch[1])
        return cells if x.ndim == 3 else cells.unsqueeze(-1).expand(x.shape)

    def _grid(self, height: int, width: int) -> tuple[int, int]:
        if height % self.patch[0] or width % self.patch[1]:
            raise BuildError(
                f"patches of {self.patch[0]} x {self.patch[1]} do not divide an image of {height} x {width}\n"
                "  give patch= a divisor, or (height, width)"
            )
        return height // self.patch[0], width // self.patch[1]
