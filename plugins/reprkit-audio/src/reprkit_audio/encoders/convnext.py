"""ConvNeXt encoder of frames."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Predicate
from jaxtyping import Int
from torch import Tensor

from reprkit import Encoder, Features, Signature
from reprkit.errors import BuildError
from reprkit.layers.value_embedding import Rescale
from reprkit.registry.constraints import DepthOrZero, Kernel, Width, odd
from reprkit.types import Batch
from reprkit_audio.layers.convnext import Blocks, TimeConvolution


class ConvNeXtEncoder(Encoder):
    """Convolution and ConvNeXt blocks (Liu et al. 2022, arXiv 2201.03545) over frames (b t c): a token per frame (b t width).

    With ``depth=0`` it is the first layer and norm of Vocos (Siuzdak 2023, arXiv 2306.00814), whose blocks then stand in the
    decoder ``istft``.  The receptive field of a token is ``(depth + 1) * (kernel // 2)`` frames on either side; padding
    changes nothing.

    Args:
        width: of the tokens.
        depth: number of blocks.
        kernel: frames that a convolution spans, odd.
        data: the signature of the input, field ``x``, a sequence (t c).

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not a sequence.
    """

    def __init__(
        self,
        width: Width = 256,
        *,
        depth: DepthOrZero = 4,
        kernel: Annotated[Kernel, Predicate(odd)] = 7,
        data: Signature,
    ) -> None:
        super().__init__()
        field = data["x"]
        if field.kind != "sequence":
            raise BuildError(f"encoder convnext needs sequences (t c), and x is {field.kind} data")
        self.rescale = Rescale(field)
        self.first = TimeConvolution(field.channels, width, kernel)
        self.blocks = Blocks(width, kernel, depth)
        self.out_dim = width

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Encode frames to tokens (b t width).

        Raises:
            BuildError: ``keep`` is given: neighboring tokens share frames.
        """
        if keep is not None:
            raise BuildError(
                "encoder convnext cannot read only some frames: its tokens overlap; use transformer"
            )
        mask = batch.get("x_mask")
        tokens = self.blocks(self.first(self.rescale(batch["x"]), mask), mask)
        return Features(x=tokens, mask=mask, grid=self.grid(batch))

    def count(self, batch: Batch) -> int:
        """Number of frames."""
        return batch["x"].shape[1]

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """(frames,)."""
        return (batch["x"].shape[1],)
