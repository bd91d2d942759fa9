"""Pre-training of generator and reconstructor without pairs of document and summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from reprkit import Codes, Features, Objective
from reprkit.interfaces import Term, require
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import BelowOne, Count, CountOrZero, NonNegative, Share
from reprkit.types import Batch
from reprkit_text.objectives.inputs import batch_texts, word_latent
from reprkit_text.objectives.noising import (
    Texts,
    append_random_words,
    insert_random_words,
    replace_spans,
    sample_windows,
    shuffle_phrases,
    take_spans,
)

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit import Model


class Summary(Objective):
    """Pre-training of a latent of words and its decoder before adversarial training (Wang and Lee 2018, arXiv 1810.02851).

    Losses, each in nats per example times its weight; a weight of 0 turns it off:

    - ``lead``: the generator writes a window of the document's first words from the document with its phrases shuffled and
      some words dropped (the authors' released pre-training);
    - ``denoise``: it writes a human summary from that summary mixed with words of another document, shuffled in the same way
      (Fevry and Phang 2018, arXiv 1809.02669);
    - ``copy``: the generator's pointer predicts the word at each position of the document;
    - ``language``: it writes human summaries without any features: a language model;
    - ``reconstructor``: the decoder reconstructs the document from the window of ``lead``;
    - ``paired``: it writes the summary shown with the document from that document: supervised, for data with ``paired=True``.

    With ``slot``, the field of data set ``SpanTargets`` with the span of a document that is most like a human summary, ``lead``
    and ``reconstructor`` use that span, and ``denoise`` replaces it by the human summary in the other document, which is then
    the source: sources keep the order of documents, except for single words that were dropped or added.

    With a latent that is not of words only ``reconstructor`` remains: the document from its own code.  So a recipe that
    pre-trains runs with any latent.

    Args:
        summary: the field of human summaries, of other documents.
        lead: weight of that loss.
        denoise: weight of that loss.
        copy: weight of that loss; only for a latent with a pointer.
        language: weight of that loss.
        reconstructor: weight of that loss.
        paired: weight of that loss.
        slot: see above; None uses the document's first words.
        low: smallest number of words of a window of first words.
        high: largest number of them.
        start: last position at which a window begins, counted from 0.
        boundary: probability that a phrase ends after a word, where phrases are shuffled.
        drop: probability that a word of a source is dropped, in [0, 1).
        added: words of another document for each word of the summary; with ``slot``, ``drop`` is used instead, between its words.
        turn: the turn in which the losses are computed: "pretrain" keeps it out of "main" in a sum of objectives.
        factor: name of the factor whose latent is trained; None for the only factor.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: no such factor or field, or ``copy`` and a generator without a pointer.
    """

    needs = frozenset({"encoder", "decoder"})

    def __init__(
        self,
        *,
        summary: str = "summary",
        lead: NonNegative = 1.0,
        denoise: NonNegative = 1.0,
        copy: NonNegative = 0.0,
        language: NonNegative = 0.0,
        reconstructor: NonNegative = 1.0,
        paired: NonNegative = 0.0,
        slot: str | None = None,
        low: Count = 6,
        high: Count = 11,
        start: CountOrZero = 0,
        boundary: Share = 0.33,
        drop: BelowOne = 0.06,
        added: NonNegative = 0.5,
        turn: Literal["pretrain", "main"] = "pretrain",
        factor: str | None = None,
    ) -> None:
        super().__init__()
        weights = {
            "lead": lead,
            "denoise": denoise,
            "copy": copy,
            "language": language,
            "reconstructor": reconstructor,
            "paired": paired,
        }
        require(any(weights.values()), "objective summary needs at least one weight above 0")
        require(low <= high, f"objective summary: high={high} must be at least low={low}")
        self.turns = (turn,)
        self.summary, self.factor, self.slot, self.loss_weights = summary, factor, slot, weights
        self.low, self.high, self.start = low, high, start
        self.boundary, self.drop, self.added = boundary, drop, added

    def bind(self, model: Model) -> None:
        """Find the factor and the fields."""
        resolve_factor(model.factors, self.factor, "objective summary")
        if model.signature is not None:  # its look-up raises and names the known fields
            if any(self.loss_weights[loss] for loss in ("denoise", "language", "paired")):
                model.signature[self.summary]
            if self.slot is not None:
                model.signature[self.slot]

    def forward(self, model: Model, batch: Batch, turn: str = "pretrain") -> dict[str, Term]:
        """Compute the losses of one batch."""
        name = resolve_factor(model.factors, self.factor, "objective summary")
        weights = self.loss_weights
        if "words" not in model.latent(name).provides:
            nats_of_own_code = model.score(batch).per_example
            return {"reconstructor": (nats_of_own_code.sum(), len(nats_of_own_code))}
        latent = word_latent(model, name, "summary")
        document = batch_texts(batch, model.factors[name].input)
        span = self._span(model, batch, document)
        nats: dict[str, Tensor] = {}
        if weights["lead"] or weights["copy"] or weights["paired"]:
            noised = self._add_noise(model, document)
            memory = latent.memory_of(self._features(model, name, batch, noised))
            if weights["lead"]:
                nats["lead"] = -latent.log_prob_of(memory, *span).sum(1)
            if weights["paired"]:
                nats["paired"] = -latent.log_prob_of(memory, *batch_texts(batch, self.summary)).sum(1)
            if weights["copy"]:
                nats["copy"] = -latent.pointer_log_prob(memory, *noised).sum(1)
        if weights["denoise"]:
            human = batch_texts(batch, self.summary)
            source = self._features(model, name, batch, self._plant(model, batch, human, document))
            nats["denoise"] = -latent.log_prob_of(source, *human).sum(1)
        if weights["language"]:
            nats["language"] = -latent.log_prob_of(None, *batch_texts(batch, self.summary)).sum(1)
        if weights["reconstructor"]:
            others = [other for other in model.factors if other != name]
            codes = model.encode(batch, factors=others) if others else Codes({})
            nats["reconstructor"] = model.score(batch, codes | {name: latent.code_of(*span)}).per_example
        return {key: (weights[key] * value.sum(), len(value)) for key, value in nats.items()}

    def _span(self, model: Model, batch: Batch, document: Texts) -> Texts:
        if self.slot is not None:
            return take_spans(document, batch[self.slot])
        return sample_windows(document, low=self.low, high=self.high, start=self.start, draw=model.training)

    def _add_noise(self, model: Model, texts: Texts) -> Texts:
        if not model.training:
            return texts
        return shuffle_phrases(texts, boundary=self.boundary if self.slot is None else 0.0, drop=self.drop)

    def _plant(self, model: Model, batch: Batch, human: Texts, document: Texts) -> Texts:
        """Return a source text that contains the human summary to be written."""
        if self.slot is not None:
            if model.training:
                human = insert_random_words(human, document, drop=self.drop, added=self.drop)
            return replace_spans(document, batch[self.slot], human)
        return (
            self._add_noise(model, append_random_words(human, document, added=self.added))
            if model.training
            else human
        )

    def _features(self, model: Model, name: str, batch: Batch, texts: Texts) -> Features:
        """Return the features of texts, encoded as the factor's input is."""
        factor = model.factors[name]
        return factor.features({**batch, factor.input: texts[0], f"{factor.input}_mask": texts[1]})
