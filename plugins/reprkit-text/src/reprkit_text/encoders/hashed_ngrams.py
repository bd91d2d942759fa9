"""Vectors of n-grams of symbols, in a table of fixed size."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reprkit import Encoder, Features, Signature
from reprkit.errors import BuildError
from reprkit.interfaces import require
from reprkit.registry.constraints import Width
from reprkit.types import Batch
from reprkit_text.table_rows import LookUp

_PRIME, _FACTOR = 2**31 - 1, 1_000_003  # a product of a remainder and the factor fits into 64 bits

Order = Annotated[int, Ge(1), Le(16)]


class HashedNgrams(Encoder):
    """Vectors of n-grams (fastText; Bojanowski et al. 2017, arXiv 1607.04606, section 3.2): symbols (b n) to (b n dim).

    A token is the sum of the vectors of the n-grams of ``shortest`` to ``longest`` symbols that start at it, over the number of
    these lengths.  The average over the tokens is the vector of the text, as fastText's classifier reads it (Joulin et al. 2017,
    arXiv 1607.01759).  An n-gram's row of the table is its hash, so that different n-grams may share one.  With data whose
    tokenizer is "characters", unknown words are read by their letters.

    Args:
        dim: width of a vector.
        shortest: smallest number of symbols of an n-gram.
        longest: largest number of symbols of an n-gram.
        buckets: rows of the table.
        std: standard deviation of the vectors' elements at the start; None: uniform in [-1/dim, 1/dim], as in fastText, where
            n-grams that do not occur in training add little to a text's vector.  A large one, such as dim ** -0.5, gives them
            random vectors, by which two texts that are read with the same table can be matched.
        sparse: sparse gradients, for large tables: with optimizers "row-adagrad", "adagrad", "sgd" and "sparse-adam".
        data: the signature of the data, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range, or ``shortest`` above ``longest``.
        BuildError: the data is not tokens, or a call has tokens to keep.
    """

    def __init__(
        self,
        dim: Width = 128,
        *,
        shortest: Order = 2,
        longest: Order = 4,
        buckets: Annotated[int, Ge(2), Le(2**26)] = 2**14,
        std: Annotated[float, Gt(0), Le(1)] | None = None,
        sparse: bool = False,
        data: Signature,
    ) -> None:
        super().__init__()
        field = data["x"]
        if field.kind != "tokens":
            raise BuildError(f"encoder hashed-ngrams reads symbols (kind tokens), and x is {field.kind} data")
        require(
            shortest <= longest,
            f"hashed-ngrams(shortest={shortest}) is above longest={longest}: exchange them",
        )
        self.orders, self.out_dim = range(shortest, longest + 1), dim
        self.table = nn.Embedding(buckets, dim, sparse=sparse)
        if std is None:
            nn.init.uniform_(self.table.weight, -1 / dim, 1 / dim)
        else:
            nn.init.normal_(self.table.weight, std=std)

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return one token a symbol (b n dim)."""
        if keep is not None:
            raise BuildError(
                "encoder hashed-ngrams reads all tokens, so it has no keep=: use encoder transformer"
            )
        x, mask = batch["x"], batch.get("x_mask")
        here = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.bool()
        total: Float[Tensor, "b n d"] = self.table.weight.new_zeros(*x.shape, self.out_dim)
        hashed, whole = x.new_zeros(x.shape), here
        for order in range(1, self.orders[-1] + 1):
            # The n-gram that starts at a symbol, longer by the symbol `order - 1` places after it.
            hashed = (hashed * _FACTOR + 1 + _shift(x, order - 1)) % _PRIME
            whole = whole & _shift(here, order - 1)
            if order in self.orders:
                rows = hashed % self.table.num_embeddings
                vectors = LookUp.apply(self.table.weight, rows) if self.table.sparse else self.table(rows)
                total = total + vectors * whole.unsqueeze(-1)
        return Features(x=total / len(self.orders), mask=mask, grid=(x.shape[1],))

    def count(self, batch: Batch) -> int:
        """Return the number of symbols."""
        return int(batch["x"].shape[1])

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return (symbols,)."""
        return (self.count(batch),)


def _shift(x: Int[Tensor, "b n"] | Bool[Tensor, "b n"], places: int) -> Tensor:
    """Return what is ``places`` after each position; 0 or False behind the end."""
    return F.pad(x[:, places:], (0, min(places, x.shape[1])))
