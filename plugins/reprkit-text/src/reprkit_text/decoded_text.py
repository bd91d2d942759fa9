"""Texts that a model writes: those of its codes where its latent is of words, else its decoder's reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.evaluation.encoding import by_length
from reprkit.models.factor import resolve_factor
from reprkit.types import Batch
from reprkit_text.transformers_networks.symbols import field_vocabulary
from reprkit_text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from reprkit import Dataset, Model
    from reprkit_text.latents.text import Text


def words_factor(model: Model, factor: str | None = None) -> str | None:
    """Return the name of the factor whose latent is of words, or None.

    Raises:
        BuildError: ``factor`` is named, and there is no such factor or its latent is of another kind.
    """
    names = [name for name, entry in model.factors.items() if "words" in entry.latent.provides]
    if factor is not None:
        name = resolve_factor(model.factors, factor, "this model")
        if name not in names:
            latent = model.latent(name)
            raise BuildError(
                f"factor {name} writes no words: its latent is {latent.qualified or type(latent).__name__}; use text"
            )
        return name
    return names[0] if names else None


def document_field(model: Model, part: str, factor: str | None = None) -> Field:
    """Return the field that holds a model's documents as symbols; ``part`` is named in errors.

    Raises:
        BuildError: the model has neither words nor a decoder of symbols, or does not know its data.
    """
    name = words_factor(model, factor)
    if model.signature is None:
        raise BuildError(f"{part}: the model was built without data=, so it does not know its vocabulary")
    field = model.signature[model.output if name is None else model.factors[name].input]
    if field.kind != "tokens" or (name is None and model.decoder is None):
        missing = "no decoder" if model.decoder is None else f"{field.kind} data"
        raise BuildError(
            f"{part} measures texts, and this model has no latent of words and {missing}: use latent text, or a decoder of symbols"
        )
    return field


def write_texts(model: Model, data: Dataset) -> list[list[int]]:
    """Return the symbols that the model writes for each example: its summaries, or its outputs if it writes none."""
    return decode_outputs(model, data) if words_factor(model) is None else write_summaries(model, data)


def write_summaries(model: Model, data: Dataset) -> list[list[int]]:
    """Return the symbols of each example's code, in the order of ``data``, without end symbols.

    Raises:
        BuildError: no latent is of words.
    """
    name = words_factor(model)
    if name is None:
        raise BuildError("this model writes no summaries: it has no latent of words; use text")
    return _collect_rows(data, lambda batch: batch_summaries(model, name, batch))


def batch_summaries(model: Model, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the symbols of a batch's codes in factor ``name``, a latent of words (b t), and which are not the end symbol (b t)."""
    words = model.encode(batch, factors=[name])[name].indices
    assert words is not None  # a latent of words
    return words[..., 0].cpu(), (words[..., 0] != cast("Text", model.latent(name)).end).cpu()


def decode_outputs(model: Model, data: Dataset) -> list[list[int]]:
    """Return the likeliest symbol at each position of the decoder's output; a causal decoder is teacher-forced on the document.

    Raises:
        BuildError: the model has no decoder.
    """

    def decode(batch: Batch) -> tuple[Tensor, Tensor]:
        scored = model.score(batch)
        return scored.decoded.x[..., 0].long(), scored.full_weight[..., 0] > 0

    return _collect_rows(data, decode)


def _collect_rows(data: Dataset, decode: Callable[[Batch], tuple[Tensor, Tensor]]) -> list[list[int]]:
    symbols, order = list[list[int]](), list[Tensor]()
    for rows, batch in by_length(data, "writing"):
        words, mask = (tensor.cpu() for tensor in decode(batch))
        order.append(rows)
        symbols += [row[valid].tolist() for row, valid in zip(words, mask, strict=True)]
    return [symbols[index] for index in torch.cat(order).argsort().tolist()]


def field_symbols(data: Dataset, name: str) -> list[list[int]]:
    """Return the symbols of a field for every example, in order.

    Raises:
        DataError: no such field.
    """
    data.signature[name]  # raises and names the known fields
    symbols = []
    for batch in data.batches():
        rows, mask = batch[name], batch.get(f"{name}_mask")
        symbols += [row.tolist() if mask is None else row[mask[i]].tolist() for i, row in enumerate(rows)]
    return symbols


def to_text(rows: Sequence[Sequence[int]], vocabulary: Vocabulary | None) -> list[str]:
    """Decode symbols to one line of text each; without a vocabulary each symbol's number is a word."""
    return [" ".join(map(str, row) if vocabulary is None else vocabulary.decode(row).split()) for row in rows]


def model_vocabulary(model: Model, part: str, factor: str | None = None) -> Vocabulary | None:
    """Return the vocabulary of the model's documents; None for symbols without one.

    Raises:
        BuildError: see ``document_field``.
    """
    return field_vocabulary(document_field(model, part, factor))


@torch.no_grad()
def text_columns(model: Model, data: Dataset) -> dict[str, list[str]]:
    """Return columns for reading: ``document``, ``summary`` (of a latent of words), ``reconstruction`` (of a decoder).

    A causal decoder writes the reconstruction from the code alone, the likeliest symbol at each step, as long as the document.
    """
    vocabulary, name = model_vocabulary(model, "text_columns"), words_factor(model)
    field = model.output if name is None else model.factors[name].input
    columns = {"document": to_text(field_symbols(data, field), vocabulary)}
    if name is not None:
        columns["summary"] = to_text(write_summaries(model, data), vocabulary)
    if model.decoder is not None:
        causal = "causal" in model.decoder.provides and bool(model.factors)
        columns["reconstruction"] = to_text(
            _collect_rows(data, _generate_from_code(model)) if causal else decode_outputs(model, data),
            vocabulary,
        )
    return columns


def _generate_from_code(model: Model) -> Callable[[Batch], tuple[Tensor, Tensor]]:
    def decode(batch: Batch) -> tuple[Tensor, Tensor]:
        codes = model.encode(batch)
        scored = model.score(batch, codes)
        decoded = model.generate(codes, length=scored.target.shape[1], temperature=0.0)
        return decoded.x[..., 0].long(), scored.full_weight[..., 0] > 0

    return decode
