"""How sequence encoders read a batch: row by row or frame by frame, all of it or only the tokens to keep."""

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
    """Values in one token of ``row_grid``: a whole row of an image, a frame, a symbol, a vector."""
    return int(field.shape[1] or 1) * field.channels if field.kind == "image" else field.channels


class SequenceInput(nn.Module):
    """Field ``x`` of a batch to tokens (b n width): images by rows, sequences by frames, vectors whole."""

    def __init__(self, field: Field, width: int) -> None:
        super().__init__()
        self.field = field
        self.values = ValueEmbedding(field, row_values(field), width)

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """How the tokens lie: (rows, 1), (frames,) or (1,)."""
        return row_grid(self.field, batch["x"])

    def count(self, batch: Batch) -> int:
        """How many tokens an example has."""
        return math.prod(self.grid(batch))

    def features(
        self,
        batch: Batch,
        keep: Int[Tensor, "b k"] | None,
        run: Callable[[Tensor, Tensor | None, Tensor], Tensor],
    ) -> Features:
        """The features that ``run(x, mask, places)`` makes of tokens (b n width) at ``places`` (n) or (b n).

        Tokens to keep are gathered before they are embedded, run in the order of time whatever that of
        ``keep``, and given back in the order in which they were named.
        """
        grid, mask = self.grid(batch), batch.get("x_mask")
        tokens = to_tokens(batch["x"], grid, self.field.kind)
        if keep is None:
            places = torch.arange(tokens.shape[1], device=tokens.device)
            return Features(x=run(self.values(tokens), mask, places), mask=mask, grid=grid)
        places, order = keep.sort(dim=1)
        shown = None if mask is None else mask.gather(1, places)
        x = run(self.values(gather_tokens(tokens, places)), shown, places)
        x = gather_tokens(x, order.argsort(dim=1))
        mask = None if mask is None else mask.gather(1, keep)
        return Features(x=x, mask=mask, grid=grid, positions=keep, length=tokens.shape[1])
