"""Base class of vocoders: they synthesize a waveform from a ``Sound`` of one front end."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from reprkit.errors import DataError, PartArgumentError
from reprkit.registry.create import construct
from reprkit.registry.references import parse
from reprkit_audio.frontends.base import FrontEnd, Sound, frontend, resolve_class

# Name -> its class.
VOCODERS = {
    "griffin-lim": "reprkit_audio.vocoders.griffin_lim:GriffinLim",
    "world": "reprkit_audio.vocoders.world:WorldVocoder",
    "neural": "reprkit_audio.vocoders.neural:Neural",
}
# Front end -> the vocoder that needs no training.
DEFAULTS = {"log-mel": "griffin-lim", "world": "world"}


class Vocoder:
    """Synthesizes waveforms from the sounds of one front end.

    Attributes:
        front: the front end of its input; ``front.rate`` is the rate of its output.
    """

    front: FrontEnd

    @property
    def form(self) -> str:
        """The form of the frames it reads."""
        return self.front.form

    def synthesize(self, sound: Sound, *, limit: bool = True) -> Float[Tensor, " samples"]:
        """Synthesize the waveform, float32 on the CPU; deterministic.

        Args:
            sound: the frames, and what else the vocoder needs.
            limit: scale a waveform that exceeds full scale down as a whole, into [-1, 1], so nothing is clipped; False leaves it,
                for a caller who synthesizes in pieces and needs one gain for all.

        Raises:
            DataError: frames that are not its front end's, or a sound that lacks what else it needs.
        """
        frames = sound.frames
        if frames.ndim != 2 or frames.shape[1] != self.front.channels or not len(frames):
            raise DataError(
                f"{type(self).__name__} reads frames (t {self.front.channels}) of {self.form}, "
                f"not {tuple(frames.shape)}"
            )
        wave = self.generate(sound).float().cpu()
        return wave / max(1.0, float(wave.abs().max())) if limit else wave

    def generate(self, sound: Sound) -> Float[Tensor, " samples"]:
        """Synthesize the waveform of a checked sound."""
        raise NotImplementedError


def vocoder(reference: str | Vocoder | None = None, *, form: str | FrontEnd | None = None) -> Vocoder:
    """Build the vocoder that a reference names: ``"griffin-lim(steps=60)"``, ``"world"``, ``"neural(model='DIR')"``.

    Args:
        reference: if None, the one for ``form`` that needs no training.
        form: of its input frames; default settings if None.

    Raises:
        UnknownPartError: no vocoder of that name.
        PartArgumentError: an unknown argument, a value out of its range, or a form that it cannot read.
        ReferenceSyntaxError: the reference cannot be read.
    """
    front = None if form is None else frontend(form)
    if isinstance(reference, Vocoder):
        return _check_front_end(reference, front)
    parsed = parse(reference or DEFAULTS[front.name if front else "log-mel"])
    cls = resolve_class(parsed, VOCODERS, "vocoder")
    arguments: dict[str, Any] = dict(parsed.arguments)
    if front is not None and parsed.name != "neural":  # its form is that of its model
        arguments.setdefault("form", front.form)
    return _check_front_end(construct(cls, arguments, {}, f"vocoder {parsed.name}"), front)


def _check_front_end(vocoder: Vocoder, front: FrontEnd | None) -> Vocoder:
    if front is not None and vocoder.front != front:
        raise PartArgumentError(
            f"the vocoder reads frames of {vocoder.form}, and these are of {front.form}: use "
            f"{DEFAULTS[front.name]!r}, or a vocoder for these frames"
        )
    return vocoder
