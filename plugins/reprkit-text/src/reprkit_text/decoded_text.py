"""What a model writes: the texts of its codes where its latent is of words, else those that its decoder gives back."""

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
from reprkit_text.vocabulary import Vocabulary
from reprkit_text.wrapped.symbols import written_with

if TYPE_CHECKING:
    from reprkit import Dataset, Model
    from reprkit_text.latents.text import Text


def writes(model: Model, factor: str | None = None) -> str | None:
    """The factor whose latent is of words; None where there is none.

    Raises:
        BuildError: ``factor`` is named, and there is no such factor or its latent is of another kind.
    """
    found = [name for name, path in model.factors.items() if "words" in path.latent.provides]
    if factor is not None:
        name = resolve_factor(model.factors, factor, "this model")
        if name not in found:
            latent = model.latent(name)
            raise BuildError(
                f"factor {name} writes no words: its latent is {latent.qualified or type(latent).__name__}; use text"
            )
        return name
    return found[0] if found else None


def reading(model: Model, part: str, factor: str | None = None) -> Field:
    """The field of symbols that a model's documents are, for the part that asks.

    Raises:
        BuildError: the model has neither words nor a decoder of symbols, or does not know its data.
    """
    name = writes(model, factor)
    if model.signature is None:
        raise BuildError(f"{part}: the model was built without data=, so it does not know its words")
    field = model.signature[model.output if name is None else model.factors[name].input]
    if field.kind != "tokens" or (name is None and model.decoder is None):
        lacks = "no decoder" if model.decoder is None else f"{field.kind} data"
        raise BuildError(
            f"{part} measures texts, and this model has no latent of words and {lacks}: use latent text, or a decoder of symbols"
        )
    return field


def texts(model: Model, data: Dataset) -> list[list[int]]:
    """The symbols of what the model writes for each example: its summaries, or where it writes none its outputs."""
    return outputs(model, data) if writes(model) is None else summaries(model, data)


def summaries(model: Model, data: Dataset) -> list[list[int]]:
    """The symbols of each example's code, in the order of ``data``, without what ends a text.

    Raises:
        BuildError: no latent is of words.
    """
    name = writes(model)
    if name is None:
        raise BuildError("this model writes no summaries: it has no latent of words; use text")
    return _rows(data, lambda batch: worded(model, name, batch))


def worded(model: Model, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """The symbols of a batch's codes in factor ``name``, a latent of words (b t), and which of them do not end a text (b t)."""
    words = model.encode(batch, factors=[name])[name].indices
    assert words is not None  # a latent of words
    return words[..., 0].cpu(), (words[..., 0] != cast("Text", model.latent(name)).end).cpu()


def outputs(model: Model, data: Dataset) -> list[list[int]]:
    """The likeliest symbol at each place of the decoder's output; a causal decoder reads the document as its teacher.

    Raises:
        BuildError: the model has no decoder.
    """

    def of(batch: Batch) -> tuple[Tensor, Tensor]:
        scored = model.score(batch)
        return scored.decoded.x[..., 0].long(), scored.full_weight[..., 0] > 0

    return _rows(data, of)


def _rows(data: Dataset, of: Callable[[Batch], tuple[Tensor, Tensor]]) -> list[list[int]]:
    made, places = list[list[int]](), list[Tensor]()
    for rows, batch in by_length(data, "writing"):
        words, kept = (each.cpu() for each in of(batch))
        places.append(rows)
        made += [row[valid].tolist() for row, valid in zip(words, kept, strict=True)]
    order = torch.cat(places).argsort().tolist()
    return [made[place] for place in order]


def symbols(data: Dataset, name: str) -> list[list[int]]:
    """The symbols of a field of every example, in order.

    Raises:
        DataError: no such field.
    """
    data.signature[name]  # says which fields there are
    found = []
    for batch in data.batches():
        rows, mask = batch[name], batch.get(f"{name}_mask")
        found += [row.tolist() if mask is None else row[mask[at]].tolist() for at, row in enumerate(rows)]
    return found


def said(rows: Sequence[Sequence[int]], words: Vocabulary | None) -> list[str]:
    """Symbols as text on one line; where no vocabulary made them, each is a word of its own."""
    return [" ".join(map(str, row) if words is None else words.decode(row).split()) for row in rows]


def vocabulary_of(model: Model, part: str, factor: str | None = None) -> Vocabulary | None:
    """The vocabulary of the model's documents; None where they are symbols without one.

    Raises:
        BuildError: see ``reading``.
    """
    return written_with(reading(model, part, factor))


@torch.no_grad()
def beside(model: Model, data: Dataset) -> dict[str, list[str]]:
    """For people to look at, a column each: ``document``, ``summary`` (of a latent of words), ``reconstruction`` (of a decoder).

    A causal decoder writes the reconstruction from the code alone, the likeliest symbol at each place, as many as the document has.
    """
    words, name = vocabulary_of(model, "beside"), writes(model)
    read = model.output if name is None else model.factors[name].input
    columns = {"document": said(symbols(data, read), words)}
    if name is not None:
        columns["summary"] = said(summaries(model, data), words)
    if model.decoder is not None:
        causal = "causal" in model.decoder.provides and bool(model.factors)
        columns["reconstruction"] = said(
            _rows(data, _drawn(model)) if causal else outputs(model, data), words
        )
    return columns


def _drawn(model: Model) -> Callable[[Batch], tuple[Tensor, Tensor]]:
    def of(batch: Batch) -> tuple[Tensor, Tensor]:
        codes = model.encode(batch)
        scored = model.score(batch, codes)
        made = model.generate(codes, length=scored.target.shape[1], temperature=0.0)
        return made.x[..., 0].long(), scored.full_weight[..., 0] > 0

    return of
