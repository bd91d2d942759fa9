"""Compression: how much shorter the code is than the document, and how much of the document it keeps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from reprkit import Code, Evaluator
from reprkit.errors import BuildError
from reprkit.evaluation.encoding import by_length, to_float64
from reprkit.registry.constraints import Count
from reprkit.types import Batch
from reprkit_text import decoded_text

if TYPE_CHECKING:
    from reprkit import Dataset, Model


class Compression(Evaluator):
    """How much shorter the code is than the document, and how much of the document it keeps.

    - ``ratio``: words of the code / words of the document, for a latent of words; means of both are ``summary_words`` and
      ``document_words``.  Words are separated by spaces; without a vocabulary, symbols are counted;
    - ``nats``: cost per word of the document given its code, for a decoder of symbols; ``nats_of_another``: the same given the code
      of another document, the next one of its batch.  The difference is the information in the code;
    - ``bits``: of a code, per example, where the latent reports it.

    Documents are as the model reads them: what a data set cuts off is not counted.

    Args:
        limit: evaluate only this many examples, the first ones; None: all.
    """

    def __init__(self, *, limit: Count | None = None) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Compute the metrics above.

        Raises:
            BuildError: a model without encoder, or with neither a latent of words nor a decoder of symbols.
        """
        if not model.factors:
            raise BuildError("compression measures codes, and this model has no encoder")
        vocabulary = decoded_text.model_vocabulary(model, "compression")
        name = decoded_text.words_factor(model)
        if self.limit is not None and self.limit < len(data):
            data = data.subset(range(self.limit))
        field = model.output if name is None else model.factors[name].input
        documents = sum(
            len(text.split())
            for text in decoded_text.to_text(decoded_text.field_symbols(data, field), vocabulary)
        )
        metrics: dict[str, Any] = {"document_words": documents / len(data), "n": len(data)}
        if name is not None:
            summary_words = sum(
                len(text.split())
                for text in decoded_text.to_text(decoded_text.write_summaries(model, data), vocabulary)
            )
            metrics |= {
                "summary_words": summary_words / len(data),
                "ratio": summary_words / max(1, documents),
            }
        if model.decoder is not None:
            metrics |= _reconstruction_costs(model, data, max(1, documents))
        return metrics


def _reconstruction_costs(model: Model, data: Dataset, words: int) -> dict[str, float]:
    """Return nats per word given the document's code and another's, and bits of a code."""
    own = others = bits = 0.0
    has_bits = True
    for _, cpu_batch in by_length(data, "reconstructing"):
        batch = model.to_device(cpu_batch)
        codes = model.encode(batch)
        rolled = {key: _roll_code(code) for key, code in codes.items()}
        own += _nats(model, batch, codes)
        others += _nats(model, batch, codes | rolled)
        code_bits = [code.bits for code in codes.values()]
        has_bits = has_bits and all(value is not None for value in code_bits)
        if has_bits:
            bits += sum(float(to_float64(value).sum()) for value in code_bits if value is not None)
    metrics = {"nats": own / words, "nats_of_another": others / words}
    return metrics | ({"bits": bits / len(data)} if has_bits else {})


def _nats(model: Model, batch: Batch, codes: Any) -> float:
    total = float(to_float64(model.score(batch, codes).per_example).sum())
    return total if math.isfinite(total) else math.nan


def _roll_code(code: Code) -> Code:
    """Replace each example's code by the next one's."""

    def roll(x: torch.Tensor | None) -> torch.Tensor | None:
        return None if x is None else x.roll(1, 0)

    rolled = {name: roll(getattr(code, name)) for name in ("z", "indices", "mask", "parents")}
    return Code.of(code, **rolled)
