"""Compression: how short the code is beside the document, and how much of the document comes back from it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from reprkit import Code, Evaluator
from reprkit.errors import BuildError
from reprkit.evaluation.encoding import by_length, exact
from reprkit.registry.constraints import Count
from reprkit.types import Batch
from reprkit_text import decoded_text

if TYPE_CHECKING:
    from reprkit import Dataset, Model


class Compression(Evaluator):
    """How much shorter the code is than the document, and how much of it is kept.

    - ``ratio``: words of the code / words of the document, of a latent of words; means of both are ``summary_words`` and
      ``document_words``.  Words are what spaces divide; without a vocabulary symbols;
    - ``nats``: what a word of the document costs given its code, by a decoder of symbols; ``nats_of_another``: given the code of
      another document, the next one of its batch.  The difference is what the code tells;
    - ``bits``: of a code, an example, where it has a price.

    Documents are as the model reads them: what a data set cuts off does not count.

    Args:
        limit: of so many examples only, the first ones; None: all.
    """

    def __init__(self, *, limit: Count | None = None) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """The figures above.

        Raises:
            BuildError: a model without encoder, or with neither a latent of words nor a decoder of symbols.
        """
        if not model.factors:
            raise BuildError("compression measures codes, and this model has no encoder")
        words = decoded_text.model_vocabulary(model, "compression")
        name = decoded_text.words_factor(model)
        if self.limit is not None and self.limit < len(data):
            data = data.subset(range(self.limit))
        field = model.output if name is None else model.factors[name].input
        documents = sum(
            len(each.split()) for each in decoded_text.to_text(decoded_text.field_symbols(data, field), words)
        )
        found: dict[str, Any] = {"document_words": documents / len(data), "n": len(data)}
        if name is not None:
            said = sum(
                len(each.split())
                for each in decoded_text.to_text(decoded_text.write_summaries(model, data), words)
            )
            found |= {"summary_words": said / len(data), "ratio": said / max(1, documents)}
        if model.decoder is not None:
            found |= _reconstruction_costs(model, data, max(1, documents))
        return found


def _reconstruction_costs(model: Model, data: Dataset, words: int) -> dict[str, float]:
    """Nats a word given the document's code and another's, and bits of a code."""
    own = others = bits = 0.0
    priced = True
    for _, read in by_length(data, "reconstructing"):
        batch = model.to_device(read)
        codes = model.encode(batch)
        turned = {key: _roll_code(code) for key, code in codes.items()}
        own += _nats(model, batch, codes)
        others += _nats(model, batch, codes | turned)
        prices = [code.bits for code in codes.values()]
        priced = priced and all(price is not None for price in prices)
        if priced:
            bits += sum(float(exact(price).sum()) for price in prices if price is not None)
    found = {"nats": own / words, "nats_of_another": others / words}
    return found | ({"bits": bits / len(data)} if priced else {})


def _nats(model: Model, batch: Batch, codes: Any) -> float:
    total = float(exact(model.score(batch, codes).nats).sum())
    return total if math.isfinite(total) else math.nan


def _roll_code(code: Code) -> Code:
    """Each example's code replaced by the next one's."""

    def turn(x: torch.Tensor | None) -> torch.Tensor | None:
        return None if x is None else x.roll(1, 0)

    return Code.of(code, z=code.z.roll(1, 0), indices=turn(code.indices), mask=turn(code.mask))
