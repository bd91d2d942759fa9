"""Values of the data as a network reads them: real ones brought to about [-1, 1], symbols embedded."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reprkit.data.signature import Field
from reprkit.errors import BuildError

BLANK, START = 0, 1  # rows of ``ValueEmbedding.special``


def center_and_radius(field: Field) -> tuple[float, float]:
    """Centre and half-width of the field's range; (0, 1) where it promises none."""
    if field.range is None:
        return 0.0, 1.0
    low, high = field.range
    return (low + high) / 2, (high - low) / 2


def count_symbols(field: Field) -> int:
    """How many symbols an encoder embeds: the vocabulary and the mask symbol after it.

    Raises:
        BuildError: the field does not say how many there are.
    """
    if field.vocab is None:
        raise BuildError(
            f"x is {field.kind} data without a vocab: say in the signature how many symbols there are"
        )
    return field.vocab + 1


class Rescale(nn.Module):
    """Brings real values from the range that the data promises to [-1, 1]; leaves them alone without one."""

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.centre, self.radius = center_and_radius(field)

    def forward(self, x: Tensor) -> Tensor:
        """(...) to (...), floating point."""
        x = x if x.is_floating_point() else x.float()
        return x if (self.centre, self.radius) == (0.0, 1.0) else (x - self.centre) / self.radius


class ValueEmbedding(nn.Module):
    """Tokens of data to vectors: (b n p) real or (b n 1) int64 symbols to (b n width).

    With ``feedback`` it also holds what a causal decoder reads where there is no earlier token: a start, and
    a blank in place of values that are not told.  For symbols the blank is the mask symbol.
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
        """(b n p) to (b n width)."""
        return self.embed(tokens.squeeze(-1)) if self.discrete else self.embed(self.rescale(tokens))

    def start(self, size: int) -> Float[Tensor, "b 1 d"]:
        """What stands before the first token, (size 1 width)."""
        row = self.embed.weight[self.blank + 1] if self.discrete else self.special[START]
        return row.expand(size, 1, -1)

    def blanks(self, size: int, count: int) -> Float[Tensor, "b n d"]:
        """What stands for ``count`` tokens that are not told, (size count width)."""
        if self.discrete:
            return self.embed.weight[self.blank].expand(size, count, -1)
        # Zeros through the linear map, so that its weights have a gradient (0): DDP raises on those without.
        nothing = self.embed.weight.new_zeros(1, 1, self.values)
        return (self.embed(nothing) + self.special[BLANK]).expand(size, count, -1)
