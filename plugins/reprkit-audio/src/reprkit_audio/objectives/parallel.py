"""Regression on parallel data: the frames of another speaker's utterance of the same words."""

from __future__ import annotations

from reprkit import Model, Objective
from reprkit.errors import BuildError
from reprkit.interfaces import Term
from reprkit.models.factor import resolve_factor
from reprkit.types import Batch


class Parallel(Objective):
    """Predicts a target speaker's frames from the source's code and the code of a prompt of the target (data set aligned-speech).

    The classic way of voice conversion: a frame-wise regression on utterances of the same words that were aligned by dynamic time
    warping (Stylianou et al. 1998, IEEE Transactions on Speech and Audio Processing 6(2); with neural networks Desai et al. 2010,
    IEEE TASLP 18(5)); here for all pairs of speakers at once, the target given by a code.  The model converts as one that was
    trained without parallel data.

    Loss ``regression``: nats, summed over an example's valid tokens and elements, averaged over examples.
    Metrics: ``error``, as objective ``reconstruction``.

    Args:
        factor: the factor of the target's voice, read from the prompt; all others read the source.
        target: the field of the target's frames, of the output's layout.
        prompt: the field of the prompt, of the layout of the input of ``factor``.

    Raises:
        BuildError: no such factor, or no such field.
    """

    needs = frozenset({"encoder", "decoder"})

    def __init__(self, *, factor: str = "speaker", target: str = "y", prompt: str = "prompt") -> None:
        super().__init__()
        self.factor, self.target, self.prompt = factor, target, prompt

    def bind(self, model: Model) -> None:
        """Check that factor and fields exist."""
        resolve_factor(model.factors, self.factor, "objective parallel")
        known = dict(model.signature or {})
        for name in (self.target, self.prompt):
            if name not in known:
                raise BuildError(
                    f"objective parallel needs a field {name!r}, and the data has {', '.join(known) or 'none'}: use aligned-speech"
                )

    def forward(self, model: Model, batch: Batch, turn: str = "main") -> dict[str, Term]:
        """Return the loss of one batch."""
        others = tuple(name for name in model.factors if name != self.factor)
        voice = {**batch, model.factors[self.factor].input: batch[self.prompt]}
        codes = model.encode(batch, factors=others) | model.encode(voice, factors=(self.factor,))
        scored = model.score({**batch, model.output: batch[self.target]}, codes)
        model.record(**scored.metrics)
        return {"regression": scored.loss}
