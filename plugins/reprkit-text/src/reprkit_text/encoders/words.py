"""Word vectors: each word's own, or the mean of the words around it."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le
from jaxtyping import Int
from torch import Tensor, nn

from reprkit import Encoder, Features, Signature
from reprkit.errors import BuildError
from reprkit.registry.constraints import Width
from reprkit.types import Batch
from reprkit_text.table_rows import LookUp
from reprkit_text.word_windows import mean_weights


class WordsEncoder(Encoder):
    """The encoder of word2vec (Mikolov et al. 2013, arXiv 1301.3781): symbols (b n) to (b n dim).

    Without ``window``, a token is the vector of its own word: the encoder of skip-gram.  With ``window``, it is the mean of the
    vectors of the words around it, without the word itself: the encoder of CBOW.  Instead of drawing the size of each window from 1
    to ``window``, as word2vec does, it takes the expectation of the mean.  A word without a context gives zeros.

    The gradient is that of the mean; word2vec's own program adds that of the sum (İrsoy et al. 2020, arXiv 2012.15332).

    Args:
        dim: width of a vector.
        window: largest distance of a word of the context; None: the word itself.
        sparse: sparse gradients, for large vocabularies: with optimizers "row-adagrad", "adagrad", "sgd" and "sparse-adam".
        data: the signature of the data, field ``x``, tokens.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: the data is not tokens, or a call has tokens to keep.
    """

    def __init__(
        self,
        dim: Width = 100,
        *,
        window: Annotated[int, Ge(1), Le(1000)] | None = None,
        sparse: bool = False,
        data: Signature,
    ) -> None:
        super().__init__()
        field = data["x"]
        if field.kind != "tokens" or field.vocab is None:
            raise BuildError(f"encoder words reads symbols (kind tokens), and x is {field.kind} data")
        self.window, self.out_dim = window, dim
        self.table = nn.Embedding(
            field.vocab + 1, dim, sparse=sparse
        )  # the last row is that of the mask symbol
        nn.init.uniform_(self.table.weight, -0.5 / dim, 0.5 / dim)

    def forward(self, batch: Batch, *, keep: Int[Tensor, "b k"] | None = None) -> Features:
        """Return one token a word (b n dim)."""
        if keep is not None:
            raise BuildError("encoder words reads all tokens, so it has no keep=: use encoder transformer")
        x, mask = batch["x"], batch.get("x_mask")
        vectors = LookUp.apply(self.table.weight, x) if self.table.sparse else self.table(x)
        if self.window is not None:
            weights = mean_weights(x.shape[1], self.window, vectors).expand(len(x), -1, -1)
            weights = weights if mask is None else weights * mask.unsqueeze(1).to(vectors)
            share = weights.sum(-1, keepdim=True).clamp(min=torch.finfo(vectors.dtype).tiny)
            vectors = torch.bmm(weights / share, vectors)
        return Features(x=vectors, mask=mask, grid=(x.shape[1],))

    def count(self, batch: Batch) -> int:
        """Return the number of words."""
        return int(batch["x"].shape[1])

    def grid(self, batch: Batch) -> tuple[int, ...]:
        """Return (words,)."""
        return (self.count(batch),)
