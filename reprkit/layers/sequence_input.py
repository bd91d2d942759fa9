"""The input of sequence encoders: a batch as rows or frames, all of them or only the tokens to keep."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor, nn

from reprkit.data.signature import Field
from reprkit.layers.gather_rows import gather_tokens
from reprkit.layers.value_embedding import ValueEmbedding
from reprkit.models.grid import row_grid, to_tokens
from reprkit.types import Batch, Features


def row_values(field: Field) -> int:
    """Return the number of values in one token of ``row_grid``: a row of an image, a frame, a symbol, a vector."""
    return int(field.shape[1] or 1) * field.channels if field.kind == "image" else field.channels


class SequenceInput(nn.Module):
    """Embed field ``x`` of a batch as tokens (b n width): images by rows, sequences by frames, vectors as one token."""

    def __init__(self, field: Field, width: int) -> None:
        super().__init__()
        self.field = field
        self.values = ValueEmbedding(field, row_values(field), width)

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return the layout of the tokens: (rows, 1), (frames,) or (1,)."""
        return row_grid(self.field, batch["x"])

    def count(self, batch: Batch) -> int:
        """Return the number of tokens of an example."""
        return math.prod(self.grid(batch))

    def features(
        self,
        batch: Batch,
        keep: Int[Tensor, "b k"] | None,
        run: Callable[[Tensor, Tensor | None, Tensor], Tensor],
    ) -> Features:
        """Return the features that ``run(x, mask, positions)`` computes from tokens (b n width) at ``positions`` (n) or (b n).

        Tokens to keep are gathered before they are embedded, processed in order of time whatever the order of
        ``keep``, and returned in the order of ``keep``.
        """
        grid, mask = self.grid(batch), batch.get("x_mask")
        tokens = to_tokens(batch["x"], grid, self.field.kind)
        if keep is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)
            return Features(x=run(self.values(tokens), mask, positions), mask=mask, grid=grid)
        positions, order = keep.sort(dim=1)
        kept_mask = None if mask is None else mask.gather(1, positions)
        x = run(self.values(gather_tokens(tokens, positions)), kept_mask, positions)
        x = gather_tokens(x, order.argsort(dim=1))
        mask = None if mask is None else mask.gather(1, keep)
        return Features(x=x, mask=mask, grid=grid, positions=keep, length=tokens.shape[1])
