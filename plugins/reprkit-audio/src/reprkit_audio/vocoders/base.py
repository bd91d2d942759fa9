"""What every vocoder shares: it makes a waveform of a ``Sound``, and says which front end it understands."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError, PartArgumentError
from reprkit.registry.create import construct
from reprkit.registry.references import parse
from reprkit_audio.frontends.base import FrontEnd, Sound, frontend, resolve_class

# Name -> where its class is, and the front end that it understands.
VOCODERS = {
    "griffin-lim": "reprkit_audio.vocoders.griffin_lim:GriffinLim",
    "world": "reprkit_audio.vocoders.world:WorldVocoder",
    "neural": "reprkit_audio.vocoders.neural:Neural",
}
# The one for each front end that needs no training.
DEFAULTS = {"log-mel": "griffin-lim", "world": "world"}


class Vocoder:
    """Makes waveforms of the sounds of one front end.

    Attributes:
        front: the front end whose sounds it understands; ``front.rate`` is the rate of what it makes.
    """

    front: FrontEnd

    @property
    def form(self) -> str:
        """The form of the frames that it understands."""
        return self.front.form

    def synthesize(self, sound: Sound) -> Float[Tensor, " samples"]:
        """The waveform in [-1, 1], float32 on the CPU; the same sound gives the same waveform.

        What would be louder than full scale is made quieter as a whole, so nothing is clipped.

        Raises:
            DataError: frames that are not its front end's, or without what it needs beside them.
        """
        frames = sound.frames
        if frames.ndim != 2 or frames.shape[1] != self.front.channels or not len(frames):
            raise DataError(
                f"{type(self).__name__} reads frames (t {self.front.channels}) of {self.form}, "
                f"not {tuple(frames.shape)}"
            )
        wave = self.generate(sound).float().cpu()
        return wave / max(1.0, float(wave.abs().max()))

    def generate(self, sound: Sound) -> Float[Tensor, " samples"]:
        """The waveform of a sound that was looked at."""
        raise NotImplementedError


def vocoder(reference: str | Vocoder | None = None, *, form: str | FrontEnd | None = None) -> Vocoder:
    """The vocoder that a reference names: ``"griffin-lim(steps=60)"``, ``"world"``, ``"neural(model='DIR')"``.

    Args:
        reference: None takes the one for ``form`` that needs no training.
        form: of the frames that it will get; its usual settings when None.

    Raises:
        UnknownPartError: no vocoder of that name.
        PartArgumentError: an argument that it does not have, a value out of its range, or a form that it cannot read.
        ReferenceSyntaxError: the reference cannot be read.
    """
    front = None if form is None else frontend(form)
    if isinstance(reference, Vocoder):
        return _check_front_end(reference, front)
    read = parse(reference or DEFAULTS[front.name if front else "log-mel"])
    cls = resolve_class(read, VOCODERS, "vocoder")
    given: dict[str, Any] = dict(read.arguments)
    if front is not None and read.name != "neural":  # that one brings its own
        given.setdefault("form", front.form)
    return _check_front_end(construct(cls, given, {}, f"vocoder {read.name}"), front)


def _check_front_end(made: Vocoder, front: FrontEnd | None) -> Vocoder:
    if front is not None and made.front != front:
        raise PartArgumentError(
            f"the vocoder reads frames of {made.form}, and these are of {front.form}: use "
            f"{DEFAULTS[front.name]!r}, or one made for them"
        )
    return made
