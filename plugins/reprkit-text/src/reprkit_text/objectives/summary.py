"""Pre-training of generator and reconstructor, without a single pair of document and summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from reprkit import Codes, Features, Objective
from reprkit.interfaces import Term, require
from reprkit.models.factor import resolve_factor
from reprkit.registry.constraints import BelowOne, Count, CountOrZero, NonNegative, Share
from reprkit.types import Batch
from reprkit_text.objectives.noising import (
    Texts,
    mixed,
    planted,
    shuffled,
    sprinkled,
    stretches,
    windows,
)
from reprkit_text.objectives.scope import texts_of, words_of

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit import Model


class Summary(Objective):
    """What a latent of words and its decoder can learn before they meet a critic (Wang and Lee 2018, arXiv 1810.02851).

    Losses, each in nats an example times its weight; a weight of 0 leaves it out:

    - ``lead``: the generator writes a stretch of the document's first words from the document, whose phrases were shuffled
      and of which some words were dropped (the authors' released pre-training);
    - ``denoise``: it writes a human summary from that summary among words of another document, shuffled in the same way
      (Fevry and Phang 2018, arXiv 1809.02669);
    - ``copy``: the generator's pointer says at each place of the document which word stands there;
    - ``language``: it writes human summaries without having read anything: a language model;
    - ``reconstructor``: the decoder tells the document from the stretch of ``lead``;
    - ``paired``: it writes the summary shown beside the document from that document: supervised, for data with ``paired=True``.

    With ``slot``, the field of data set ``Slotted`` that says which stretch of a document is most like a human summary, ``lead``
    and ``reconstructor`` take that stretch, and ``denoise`` puts the human summary into its place in the other document, which
    is read from there: sources are then as documents are, in their order, but for single words that were dropped or added.

    With a latent that is not of words ``reconstructor`` alone is left: the document from its own code.  So a recipe that
    pre-trains runs with any latent.

    Args:
        summary: the field of human summaries, of other documents.
        lead: weight of that loss.
        denoise: weight of that loss.
        copy: weight of that loss; of a latent with a pointer only.
        language: weight of that loss.
        reconstructor: weight of that loss.
        paired: weight of that loss.
        slot: see above; None takes the document's first words.
        low: fewest words of a stretch of first words.
        high: most of them.
        start: the latest word with which a stretch begins, counted from 0.
        boundary: probability that a phrase ends after a word, where phrases are shuffled.
        drop: probability that a word of a source is dropped, in [0, 1).
        added: words of another document, for each word of the summary; with ``slot`` ``drop`` of them, between its words.
        turn: the turn in which it takes part: "pretrain" keeps it out of "main" in a sum of objectives.
        factor: whose latent; the only factor when None.

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
        require(any(weights.values()), "a summary objective needs one weight above 0")
        require(low <= high, f"objective summary: high={high} must be at least low={low}")
        self.turns = (turn,)
        self.summary, self.factor, self.slot, self.shares = summary, factor, slot, weights
        self.low, self.high, self.start = low, high, start
        self.boundary, self.drop, self.added = boundary, drop, added

    def bind(self, model: Model) -> None:
        """Find the factor and the field."""
        resolve_factor(model.factors, self.factor, "objective summary")
        if model.signature is not None:  # says which fields there are
            if any(self.shares[each] for each in ("denoise", "language", "paired")):
                model.signature[self.summary]
            if self.slot is not None:
                model.signature[self.slot]

    def forward(self, model: Model, batch: Batch, turn: str = "pretrain") -> dict[str, Term]:
        """The losses of one batch."""
        name = resolve_factor(model.factors, self.factor, "objective summary")
        weights = self.shares
        if "words" not in model.latent(name).provides:
            own = model.score(batch).per_example
            return {"reconstructor": (own.sum(), len(own))}
        latent = words_of(model, name, "summary")
        document = texts_of(batch, model.factors[name].input)
        stretch = self._stretch(model, batch, document)
        nats: dict[str, Tensor] = {}
        if weights["lead"] or weights["copy"] or weights["paired"]:
            noised = self._noised(model, document)
            read = latent.read(self._features(model, name, batch, noised))
            if weights["lead"]:
                nats["lead"] = -latent.teach(read, *stretch).sum(1)
            if weights["paired"]:
                nats["paired"] = -latent.teach(read, *texts_of(batch, self.summary)).sum(1)
            if weights["copy"]:
                nats["copy"] = -latent.pointed(read, *noised).sum(1)
        if weights["denoise"]:
            human = texts_of(batch, self.summary)
            among = self._features(model, name, batch, self._among(model, batch, human, document))
            nats["denoise"] = -latent.teach(among, *human).sum(1)
        if weights["language"]:
            nats["language"] = -latent.teach(None, *texts_of(batch, self.summary)).sum(1)
        if weights["reconstructor"]:
            others = [each for each in model.factors if each != name]
            codes = model.encode(batch, factors=others) if others else Codes({})
            nats["reconstructor"] = model.score(batch, codes | {name: latent.spell(*stretch)}).per_example
        return {key: (weights[key] * value.sum(), len(value)) for key, value in nats.items()}

    def _stretch(self, model: Model, batch: Batch, document: Texts) -> Texts:
        if self.slot is not None:
            return stretches(document, batch[self.slot])
        return windows(document, low=self.low, high=self.high, start=self.start, draw=model.training)

    def _noised(self, model: Model, texts: Texts) -> Texts:
        if not model.training:
            return texts
        return shuffled(texts, boundary=self.boundary if self.slot is None else 0.0, drop=self.drop)

    def _among(self, model: Model, batch: Batch, human: Texts, document: Texts) -> Texts:
        """A source from which the human summary is to be written."""
        if self.slot is not None:
            if model.training:
                human = sprinkled(human, document, drop=self.drop, added=self.drop)
            return planted(document, batch[self.slot], human)
        return self._noised(model, mixed(human, document, added=self.added)) if model.training else human

    def _features(self, model: Model, name: str, batch: Batch, texts: Texts) -> Features:
        """The features of texts, encoded as the factor's input is."""
        path = model.factors[name]
        return path.features({**batch, path.input: texts[0], f"{path.input}_mask": texts[1]})
