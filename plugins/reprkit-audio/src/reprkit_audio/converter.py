"""A model and a vocoder that convert voices: sounds in, sounds in another voice out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit import Code, Codes, Model, load
from reprkit.errors import BuildError, DataError, nearest
from reprkit.utils.modes import eval_mode
from reprkit_audio import sound, vocoders
from reprkit_audio.frontends import FrontEnd, Sound, frontend
from reprkit_audio.global_variance import deviation, restored
from reprkit_audio.prosody import PitchStatistics, moved, statistics
from reprkit_audio.streaming import Wave, joined, windows
from reprkit_audio.vocoders import Vocoder

LONGEST = 30.0  # seconds that are converted in one go
LISTENED = 60.0  # seconds of a target, and of a long source for its pitch


@dataclass(frozen=True, kw_only=True)
class Voice:
    """What is taken of a target.

    Attributes:
        code: of factor ``speaker``, one example (1 1 d); of several recordings the mean.
        deviation: of the envelope's coefficients (c); None where the front end tells none.
        pitch: mean and spread; None where the front end tells no pitch.
    """

    code: Code
    deviation: Float[Tensor, " c"] | None = None
    pitch: PitchStatistics | None = None


class Converter:
    """A model and a vocoder, ready to convert one recording after another.

    Args:
        model: a model with a factor ``speaker`` and another one, or the folder of one.
        vocoder: a reference; None takes the one for the model's frames that needs no training.
        spread: whether the converted envelope gets the target's deviation (``reprkit_audio.global_variance``).
        device: where to run a model that is loaded here; a GPU when there is one.

    Raises:
        BuildError: the model cannot convert.
        PartArgumentError: a vocoder that does not fit its frames.
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str],
        *,
        vocoder: str | Vocoder | None = None,
        spread: bool = True,
        device: str | None = None,
    ) -> None:
        if not isinstance(model, Model):
            place = device or ("cuda" if torch.cuda.is_available() else "cpu")
            model = load(os.fspath(model)).to(place)
        self.model, self.front = model, _front(model)
        self.vocoder, self.spread = vocoders.vocoder(vocoder, form=self.front), spread

    @property
    def rate(self) -> int:
        """Of what it reads and makes, in Hz."""
        return self.front.rate

    def voice(self, sounds: Sequence[Sound]) -> Voice:
        """The voice of one or more analysed recordings.

        Raises:
            DataError: no voiced frame.
        """
        with eval_mode(self.model), torch.no_grad():
            codes = [self.codes(each.frames, ("speaker",))["speaker"] for each in sounds]
        code = codes[0] if len(codes) == 1 else _mean(codes)
        try:
            pitch = _statistics(sounds)
        except DataError as error:
            raise DataError(f"the target: {error}") from error
        return Voice(code=code, deviation=deviation(self.front, *sounds), pitch=pitch)

    def pitch(self, wave: Wave) -> PitchStatistics | None:
        """A source's pitch, of its first minute; None where there is none, or the front end does not tell."""
        known = self.front.analyse(wave[: round(LISTENED * self.rate)])
        return _statistics([known]) if known.pitch is not None and (known.pitch > 0).any() else None

    def stream(self, pieces: Iterable[Wave], voice: Voice, source: PitchStatistics | None) -> Iterator[Wave]:
        """A waveform in pieces of any lengths, converted: as many samples, in pieces.

        Args:
            pieces: of the source, in order.
            voice: the target's.
            source: the source's pitch; None measures it in each window.
        """
        done: Wave | None = None  # the last second of what was made, not given yet
        overlap = self.rate
        for window, last in windows(pieces, round(LONGEST * self.rate), overlap):
            made = self._block(window, voice, source)
            if done is not None:
                made = torch.cat([joined(done, made[:overlap], self.rate), made[overlap:]])
            if last:
                yield made
                return
            done = made[-overlap:]
            yield made[:-overlap]

    def converted(self, source: Sound, voice: Voice, pitch: PitchStatistics | None = None) -> Sound:
        """A sound in another voice.

        Args:
            source: what the front end found in it.
            voice: the target's.
            pitch: the source's; None measures it in ``source``.

        Raises:
            BuildError: the decoder makes another number of frames than it is asked for.
        """
        with eval_mode(self.model), torch.no_grad():
            codes = self.codes(source.frames)
            frames = self.decoded(codes | {"speaker": voice.code}, len(source.frames))
        made = replace(source, frames=frames)
        if self.spread:
            made = replace(made, frames=restored(self.front, made, voice.deviation))
        hertz = source.pitch
        if hertz is not None and voice.pitch is not None and (hertz > 0).any():
            hertz = moved(hertz, pitch or statistics(hertz), voice.pitch)
        return replace(made, pitch=hertz)

    def codes(self, frames: Float[Tensor, "t c"], factors: Sequence[str] | None = None) -> Codes:
        """The codes of one utterance, of any length."""
        fields = {path.input for path in self.model.factors.values()}
        batch = {field: frames[None].float() for field in fields}
        return self.model.encode(batch, factors=factors, any_length=True)

    def decoded(self, codes: Mapping[str, Code], count: int) -> Float[Tensor, "t c"]:
        """The frames that codes stand for, on the CPU.

        Raises:
            BuildError: not ``count`` of them.
        """
        made = self.model.to_batch(self.model.decode(codes, length=count))[self.model.output][0]
        if made.shape[0] != count:
            raise BuildError(
                f"the decoder made {made.shape[0]} frames, not {count}: it has one length only, and recordings have any; "
                "use adain, conv-lstm or gru"
            )
        return made.float().cpu()

    def synthesised(self, made: Sound, samples: int) -> Wave:
        """The waveform of a sound, cut or filled to so many samples."""
        wave = self.vocoder.synthesise(made)[:samples]
        return torch.nn.functional.pad(wave, (0, samples - len(wave)))

    def _block(self, wave: Wave, voice: Voice, source: PitchStatistics | None) -> Wave:
        if float(wave.abs().max()) < sound.SILENT:
            return torch.zeros_like(wave)
        analysed = self.front.analyse(wave)
        return self.synthesised(self.converted(analysed, voice, source), len(wave))


def _front(model: Model) -> FrontEnd:
    """The front end of the frames that a model converts.

    Raises:
        BuildError: it cannot convert.
    """
    names = list(model.factors)
    if "speaker" not in names or len(names) < 2:
        raise BuildError(
            f"converting a voice takes a model with a factor 'speaker' and one of what is said.{nearest('speaker', names)}\n"
            f"  its factors: {', '.join(names) or 'none'}; see recipes/voice_conversion.py"
        )
    if model.decoder is None or "causal" in model.decoder.provides:
        raise BuildError("converting a voice takes a decoder that makes all frames of a code at once")
    if model.signature is None:
        raise BuildError("the model was built without data=, so it does not know how its frames are made")
    forms = {
        model.signature[field].form for field in (*(p.input for p in model.factors.values()), model.output)
    }
    form = forms.pop()
    if forms or form is None:
        raise BuildError(
            "converting a voice takes a model that reads and makes frames of one front end (data sets speech, asterisk, "
            f"...); its fields are made by: {', '.join(sorted(map(str, {form, *forms})))}"
        )
    return frontend(form)


def _statistics(sounds: Sequence[Sound]) -> PitchStatistics | None:
    pitches = [each.pitch for each in sounds if each.pitch is not None]
    return statistics(*pitches) if pitches else None


def _mean(codes: Sequence[Code]) -> Code:
    return Code.of(codes[0], z=torch.stack([each.point for each in codes]).mean(0))
