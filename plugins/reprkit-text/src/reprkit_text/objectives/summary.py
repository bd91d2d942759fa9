"""Pre-training of generator and reconstructor, without a single pair of document and summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from reprkit import Codes, Objective
from reprkit.interfaces import Term, require
from reprkit.latents.terms import real as number
from reprkit.layers.checks import share, whole
from reprkit.paths import factor_of
from reprkit.types import Batch
from reprkit_text.objectives.noising import Texts, mixed, shuffled, windows
from reprkit_text.objectives.scope import texts_of, told, words_of

if TYPE_CHECKING:
    from torch import Tensor

    from reprkit import Model


class Summary(Objective):
    """What a latent of words and its decoder can learn before they meet a critic (Wang and Lee 2018, 1810.02851, section 5).

    Losses, each in nats an example times its weight; a weight of 0 leaves it out:

    - ``lead``: the generator writes a stretch of the document's first words from the document, whose phrases were shuffled
      and of which some words were dropped (the authors' released pre-training);
    - ``denoise``: it writes a human summary from that summary among words of another document, shuffled in the same way
      (Fevry and Phang 2018, arXiv 1809.02669, section 3.1);
    - ``language``: it writes human summaries without having read anything: a language model;
    - ``reconstructor``: the decoder tells the document from the stretch of ``lead``.

    With a latent that is not of words ``reconstructor`` alone is left: the document from its own code.  So a recipe that
    pre-trains runs with any latent.

    Args:
        summary: the field of human summaries, of other documents.
        lead: weight of that loss.
        denoise: weight of that loss.
        language: weight of that loss.
        reconstructor: weight of that loss.
        low: fewest words of a stretch.
        high: most of them.
        start: the latest word with which a stretch begins, counted from 0.
        boundary: probability that a phrase ends after a word.
        drop: probability that a word of a source is dropped, in [0, 1).
        added: words of another document, for each word of the summary.
        turn: the turn in which it takes part: "pretrain" keeps it out of "main" in a sum of objectives.
        factor: whose latent; the only factor when None.

    Raises:
        PartArgumentError: an argument out of its range.
        BuildError: no such factor or field.
    """

    needs = frozenset({"encoder", "decoder"})

    def __init__(
        self,
        *,
        summary: str = "summary",
        lead: float = 1.0,
        denoise: float = 1.0,
        language: float = 0.0,
        reconstructor: float = 1.0,
        low: int = 6,
        high: int = 11,
        start: int = 0,
        boundary: float = 0.33,
        drop: float = 0.06,
        added: float = 0.5,
        turn: Literal["pretrain", "main"] = "pretrain",
        factor: str | None = None,
    ) -> None:
        super().__init__()
        weights = {"lead": lead, "denoise": denoise, "language": language, "reconstructor": reconstructor}
        for name, value in weights.items():
            number(name, value, 0)
        require(any(weights.values()), "a summary objective needs one weight above 0")
        whole("low", low)
        whole("high", high, low)
        whole("start", start, 0)
        number("boundary", boundary, 0)
        require(boundary <= 1, f"boundary is a probability, not {boundary}")
        share("drop", drop)
        number("added", added, 0)
        require(turn in ("pretrain", "main"), f"turn must be 'pretrain' or 'main', not {turn!r}")
        self.turns = (turn,)
        self.summary, self.factor, self.shares = summary, factor, weights
        self.low, self.high, self.start = low, high, start
        self.boundary, self.drop, self.added = boundary, drop, added

    def bind(self, model: Model) -> None:
        """Find the factor and the field."""
        factor_of(model.paths, self.factor, "objective summary")
        if model.signature is not None and (self.shares["denoise"] or self.shares["language"]):
            model.signature[self.summary]  # says which fields there are

    def forward(self, model: Model, batch: Batch, turn: str = "pretrain") -> dict[str, Term]:
        """The losses of one batch."""
        name = factor_of(model.paths, self.factor, "objective summary")
        latent, weights = model.latent(name), self.shares
        if "words" not in latent.provides:
            own = told(model, model.encode(batch), batch)[0]
            return {"reconstructor": (own.sum(), len(own))}
        document = texts_of(batch, model.paths[name].input)
        stretch = windows(document, low=self.low, high=self.high, start=self.start, draw=model.training)
        nats: dict[str, Tensor] = {}
        if weights["lead"]:
            nats["lead"] = self._taught(model, name, batch, self._noised(model, document), stretch)
        if weights["denoise"]:
            human = texts_of(batch, self.summary)
            among = mixed(human, document, added=self.added) if model.training else human
            nats["denoise"] = self._taught(model, name, batch, self._noised(model, among), human)
        if weights["language"]:
            nats["language"] = (
                -words_of(model, name, "summary").teach(None, *texts_of(batch, self.summary)).sum(1)
            )
        if weights["reconstructor"]:
            others = [each for each in model.paths if each != name]
            codes = model.encode(batch, factors=others) if others else Codes({})
            nats["reconstructor"] = told(
                model, codes | {name: words_of(model, name, "summary").spell(*stretch)}, batch
            )[0]
        return {key: (weights[key] * value.sum(), len(value)) for key, value in nats.items()}

    def _noised(self, model: Model, texts: Texts) -> Texts:
        return shuffled(texts, boundary=self.boundary, drop=self.drop) if model.training else texts

    def _taught(self, model: Model, name: str, batch: Batch, source: Texts, target: Texts) -> Tensor:
        """Nats of the target texts given the source texts, encoded as the factor's input is (b)."""
        path = model.paths[name]
        read = {**batch, path.input: source[0], f"{path.input}_mask": source[1]}
        return -words_of(model, name, "summary").teach(path.features(read), *target).sum(1)
