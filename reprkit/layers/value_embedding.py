"""Input embedding of data values: real values are rescaled to about [-1, 1], symbols embedded."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.data.signature import Field
from reprkit.errors import BuildError

BLANK, START = 0, 1  # rows of ``ValueEmbedding.special``


def center_and_radius(field: Field) -> tuple[float, float]:
    """Return center and half-width of the field's range; (0, 1) where it has none."""
    if field.range is None:
        return 0.0, 1.0
    low, high = field.range
    return (low + high) / 2, (high - low) / 2


def column_scales(field: Field) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Return center and scale of each element of a table's row: mean and std of a number, 0 and 1 for a category."""
    pairs = [
        (column.mean, column.std) if column.kind == "number" else (0.0, 1.0)
        for column in field.columns
        for _ in range(column.width)
    ]
    center, scale = zip(*pairs, strict=True)
    return torch.tensor(center), torch.tensor(scale)


def element_scales(field: Field) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Return center and scale of a field's values: of each element where it has columns, else of all elements (1,)."""
    if field.columns:
        return column_scales(field)
    center, radius = center_and_radius(field)
    return torch.tensor([center]), torch.tensor([radius])


def count_symbols(field: Field) -> int:
    """Return the number of symbols that an encoder embeds: the vocabulary and the mask symbol after it.

    Raises:
        BuildError: the field has no ``vocab``.
    """
    if field.vocab is None:
        raise BuildError(
            f"x is {field.kind} data without a vocab: set the number of symbols in the signature, vocab="
        )
    return field.vocab + 1


class Rescale(nn.Module):
    """Rescale real values from the field's range to [-1, 1]; without a range they are unchanged.

    Numbers of a table's columns are standardized.
    """

    column_center: Tensor | None
    column_scale: Tensor | None

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.center, self.radius = center_and_radius(field)
        center, scale = column_scales(field) if field.columns else (None, None)
        self.register_buffer("column_center", center, persistent=False)
        self.register_buffer("column_scale", scale, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (...) to (...), floating point."""
        x = x if x.is_floating_point() else x.float()
        if self.column_center is not None and self.column_scale is not None:
            return (x - self.column_center) / self.column_scale
        return x if (self.center, self.radius) == (0.0, 1.0) else (x - self.center) / self.radius


def pixel_channels(field: Field, width: int) -> tuple[nn.Module, int]:
    """Return the module that turns an image (b h w c) or a map (b h w) into channels (b h w k), and their number.

    An image keeps its channels, rescaled; a symbol of a map is embedded as ``width`` numbers.
    """
    if field.discrete:
        return nn.Embedding(count_symbols(field), width), width
    return Rescale(field), field.channels


class ValueEmbedding(nn.Module):
    """Embed tokens of data: (b n p) real values or (b n 1) int64 symbols to (b n width).

    With ``feedback`` it also has the embeddings that a causal decoder reads where there is no earlier token: a start
    token, and a blank for tokens that are not given.  For symbols the blank is the mask symbol.
    """

    def __init__(self, field: Field, values: int, width: int, *, feedback: bool = False) -> None:
        super().__init__()
        self.discrete, self.width, self.values = field.discrete, width, values
        self.embed: nn.Embedding | nn.Linear
        if self.discrete:
            self.blank = count_symbols(field) - 1
            self.embed = nn.Embedding(self.blank + 1 + feedback, width)
        else:
            self.rescale = Rescale(field)
            self.embed = nn.Linear(values, width)
            if feedback:
                self.special = nn.Parameter(torch.randn(2, width) * 0.02)

    def forward(self, tokens: Tensor) -> Float[Tensor, "b n d"]:
        """Map (b n p) to (b n width)."""
        return self.embed(tokens.squeeze(-1)) if self.discrete else self.embed(self.rescale(tokens))

    def start(self, size: int) -> Float[Tensor, "b 1 d"]:
        """Return the start token (size 1 width), which precedes the first token."""
        row = self.embed.weight[self.blank + 1] if self.discrete else self.special[START]
        return row.expand(size, 1, -1)

    def blanks(self, size: int, count: int) -> Float[Tensor, "b n d"]:
        """Return blanks for ``count`` tokens that are not given, (size count width)."""
        if self.discrete:
            return self.embed.weight[self.blank].expand(size, count, -1)
        # Zeros through the linear map, so that its weights have a gradient (0): DDP raises on weights without one.
        zeros = self.embed.weight.new_zeros(1, 1, self.values)
        return (self.embed(zeros) + self.special[BLANK]).expand(size, count, -1)
