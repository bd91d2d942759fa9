"""Voice conversion with one model and one vocoder, for any number of recordings."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from reprkit import Code, Codes, Model, load
from reprkit.errors import BuildError, DataError, nearest
from reprkit.interfaces import require
from reprkit.utils.modes import eval_mode
from reprkit_audio import vocoders
from reprkit_audio.frontends import FrontEnd, Sound, frontend
from reprkit_audio.global_variance import envelope_deviation, restore_deviation
from reprkit_audio.learned_voices import LearnedVoices, read_learned_voices
from reprkit_audio.neighbors import FramePool
from reprkit_audio.prosody import PitchStatistics, convert_pitch, pitch_statistics
from reprkit_audio.streaming import Wave, crossfade, windows
from reprkit_audio.vocoders import Vocoder
from reprkit_audio.waveforms import is_silent

if TYPE_CHECKING:
    from reprkit.models.factor import Factor

WINDOW_SECONDS = 30.0  # seconds that are converted in one go
MAX_STRENGTH = 4  # above it, the envelope does not resemble speech
TARGET_SECONDS = 60.0  # seconds of a target, and of a long source for its pitch


@dataclass(frozen=True, kw_only=True)
class Voice:
    """What conversion takes from the target.

    Attributes:
        code: of factor ``speaker``, one example (1 1 d); for several recordings, their mean.
        deviation: of the envelope's coefficients (c); None where the front end has none.
        pitch: mean and standard deviation; None where the front end extracts no pitch.
        pool: the recordings' frames, to be found by their content; None without ``neighbors``.
    """

    code: Code
    deviation: Float[Tensor, " c"] | None = None
    pitch: PitchStatistics | None = None
    pool: FramePool | None = None


class Converter:
    """A model and a vocoder, ready to convert one recording after another.

    Attributes:
        learned: statistics of the training speech (``reprkit_audio.learned_voices``); None where the model's folder has none.

    Args:
        model: a model with a factor ``speaker`` and another one, or the folder of one.
        vocoder: a reference; if None, the one for the model's frames that needs no training.
        spread: whether the converted envelope gets the target's deviation (``reprkit_audio.global_variance``).
        neighbors: nearest neighbors of a token of the source among the tokens of the target's recordings, by the content before
            it is quantized; 0 for none.  The decoded envelope is replaced by the mean of theirs, after kNN-VC (Baas et al. 2023,
            arXiv 2305.18975); the level stays the decoded one.  A minute of the target's speech and more is needed.
        blend: share of the neighbors' envelope in the result, over 0 and at most 1; the rest is the decoded one.
        strength: how far the mean of the decoded envelope goes from the source's own voice to the target's, 0 to 4: 1 is as
            decoded; more extrapolates, as guidance does (Ho and Salimans 2022, arXiv 2207.12598), where the decoder changes the
            voice too little.  Changes over time, which carry the words, stay as decoded.  In ``stream`` the mean is that of each
            window of 30 s, so that the crossfade between windows covers a step of the mean.  Any value but 1 decodes twice.
        device: where to run a model that is loaded here; a GPU when there is one.

    Raises:
        BuildError: the model cannot convert, or with ``neighbors`` has no single factor of content tokens.
        PartArgumentError: a vocoder that does not fit its frames, or settings that ``check_settings`` refuses.
    """

    def __init__(
        self,
        model: Model | str | os.PathLike[str],
        *,
        vocoder: str | Vocoder | None = None,
        spread: bool = True,
        neighbors: int = 0,
        blend: float = 1.0,
        strength: float = 1.0,
        device: str | None = None,
    ) -> None:
        check_settings(neighbors, blend, strength)
        self.learned: LearnedVoices | None = None
        if not isinstance(model, Model):
            self.learned = read_learned_voices(os.fspath(model))
            device = device or ("cuda" if torch.cuda.is_available() else "cpu")
            model = load(os.fspath(model)).to(device)
        self.model, self.front = model, _front_end_of(model)
        self.vocoder, self.spread = vocoders.vocoder(vocoder, form=self.front), spread
        self.neighbors, self.blend, self.strength = neighbors, blend, strength
        self._content = _content_factor(model) if neighbors else None
        self._stride = 0 if self._content is None else _frames_per_token(self._content, self.front.channels)

    @property
    def rate(self) -> int:
        """Sampling rate of input and output, in Hz."""
        return self.front.rate

    def voice(self, sounds: Sequence[Sound]) -> Voice:
        """The voice of one or more analyzed recordings.

        Raises:
            DataError: no voiced frame.
        """
        with eval_mode(self.model), torch.no_grad():
            codes = [self.encode(each.frames, ("speaker",))["speaker"] for each in sounds]
        code = codes[0] if len(codes) == 1 else _mean_code(codes)
        try:
            pitch = _pitch_statistics(sounds)
        except DataError as error:
            raise DataError(f"the target: {error}") from error
        return Voice(
            code=code,
            deviation=envelope_deviation(self.front, *sounds),
            pitch=pitch,
            pool=self._frame_pool(sounds) if self.neighbors else None,
        )

    def pitch(self, wave: Wave) -> PitchStatistics | None:
        """Pitch statistics of a source's first minute; None where no frame is voiced, or the front end extracts no pitch."""
        analyzed = self.front.analyze(wave[: round(TARGET_SECONDS * self.rate)])
        voiced = analyzed.pitch is not None and (analyzed.pitch > 0).any()
        return _pitch_statistics([analyzed]) if voiced else None

    def stream(self, pieces: Iterable[Wave], voice: Voice, source: PitchStatistics | None) -> Iterator[Wave]:
        """Convert a waveform given in pieces of any lengths; yields as many samples, in pieces.

        The pieces have the model's own level, which may exceed full scale: ``waveforms.matching_gain`` gives one gain for all.

        Args:
            pieces: of the source, in order.
            voice: the target's.
            source: the source's pitch; if None, it is measured in each window.
        """
        tail: Wave | None = None  # the last converted second, not yet yielded
        overlap = self.rate
        for window, last in windows(pieces, round(WINDOW_SECONDS * self.rate), overlap):
            block = self._convert_block(window, voice, source)
            if tail is not None:
                block = torch.cat([crossfade(tail, block[:overlap], self.rate), block[overlap:]])
            if last:
                yield block
                return
            tail = block[-overlap:]
            yield block[:-overlap]

    def convert(self, source: Sound, voice: Voice, pitch: PitchStatistics | None = None) -> Sound:
        """Convert an analyzed sound to another voice.

        Args:
            source: the front end's analysis.
            voice: the target's.
            pitch: the source's; if None, it is measured in ``source``.

        Raises:
            BuildError: the decoder returns another number of frames than requested.
            DataError: with ``neighbors``, a voice that was extracted without.
        """
        with eval_mode(self.model), torch.no_grad():
            codes = self.encode(source.frames)
            frames = self.decode(codes | {"speaker": voice.code}, len(source.frames))
            if self.strength != 1:
                frames = self._extrapolate(frames, self.decode(codes, len(source.frames)))
        if self.neighbors:
            frames = self._blend_neighbors(source.frames, frames, voice)
        converted = replace(source, frames=frames)
        if self.spread:
            converted = replace(converted, frames=restore_deviation(self.front, converted, voice.deviation))
        contour = source.pitch
        if contour is not None and voice.pitch is not None and (contour > 0).any():
            contour = convert_pitch(contour, pitch or pitch_statistics(contour), voice.pitch)
        return replace(converted, pitch=contour)

    def encode(self, frames: Float[Tensor, "t c"], factors: Sequence[str] | None = None) -> Codes:
        """Encode one utterance of any length."""
        fields = {path.input for path in self.model.factors.values()}
        batch = {field: frames[None].float() for field in fields}
        return self.model.encode(batch, factors=factors, any_length=True)

    def decode(self, codes: Mapping[str, Code], count: int) -> Float[Tensor, "t c"]:
        """Decode codes to ``count`` frames, on the CPU.

        Raises:
            BuildError: the decoder returns another number of frames.
        """
        frames = self.model.to_batch(self.model.decode(codes, length=count))[self.model.output][0]
        if frames.shape[0] != count:
            raise BuildError(
                f"the decoder returned {frames.shape[0]} frames, not {count}: it has one fixed length, and recordings have any; "
                "use adain, conv-lstm or gru"
            )
        return frames.float().cpu()

    def synthesize(self, converted: Sound, samples: int, *, limit: bool = True) -> Wave:
        """Synthesize a waveform, cut or zero-padded to ``samples`` samples; ``limit`` as for ``Vocoder.synthesize``."""
        wave = self.vocoder.synthesize(converted, limit=limit)[:samples]
        return torch.nn.functional.pad(wave, (0, samples - len(wave)))

    def content(self, frames: Float[Tensor, "t c"]) -> Float[Tensor, "n d"]:
        """What the content's latent reads, before it is quantized or sampled, of one utterance; on the CPU.

        Raises:
            BuildError: the converter has no ``neighbors``.
        """
        if self._content is None:
            raise BuildError("content is that of the neighbors: Converter(model, neighbors=4)")
        factor, condition = self._content, None
        with eval_mode(self.model), torch.no_grad():
            if factor.condition is not None:
                condition = self.encode(frames, (factor.condition,))[factor.condition]
            batch = self.model.to_device({factor.input: frames[None].float()})
            return factor.features(batch, condition=condition).x[0].float().cpu()

    def _extrapolate(
        self, converted: Float[Tensor, "t c"], own: Float[Tensor, "t c"]
    ) -> Float[Tensor, "t c"]:
        """Move the mean envelope of converted frames further from that of the same frames in the source's own voice."""
        moved, shape = converted.clone(), self.front.shape or slice(None)
        moved[:, shape] += (self.strength - 1) * (converted - own)[:, shape].mean(0)
        return moved

    def _frame_pool(self, sounds: Sequence[Sound]) -> FramePool:
        frames = [each.frames for each in sounds]
        return FramePool.of([self.content(each) for each in frames], frames, self._stride)

    def _blend_neighbors(
        self, source: Float[Tensor, "t c"], decoded: Float[Tensor, "t c"], voice: Voice
    ) -> Float[Tensor, "t c"]:
        """Decoded frames with the envelope of the target's nearest ones; the level stays."""
        if voice.pool is None:
            raise DataError(
                "the voice was extracted by a converter without neighbors, so it has no frames to choose from: extract it again"
            )
        found = voice.pool.nearest(self.content(source), self.neighbors).flatten(0, 1)[: len(decoded)]
        mixed, shape = decoded.clone(), self.front.shape or slice(None)
        mixed[:, shape] = (1 - self.blend) * decoded[:, shape] + self.blend * found[:, shape]
        return mixed

    def _convert_block(self, wave: Wave, voice: Voice, source: PitchStatistics | None) -> Wave:
        if is_silent(wave):
            return torch.zeros_like(wave)
        analyzed = self.front.analyze(wave)
        return self.synthesize(self.convert(analyzed, voice, source), len(wave), limit=False)


def check_settings(neighbors: int, blend: float, strength: float) -> None:
    """Check what a ``Converter`` does to the envelope.

    Raises:
        PartArgumentError: a value out of its range, ``blend`` without ``neighbors``, or ``strength`` where the neighbors' envelope
            replaces all of the decoded one.
    """
    require(neighbors >= 0, f"neighbors is a number of tokens, 0 for none, not {neighbors}")
    require(0 < blend <= 1, f"blend is a share of over 0 and at most 1, not {blend:g}")
    require(0 <= strength <= MAX_STRENGTH, f"strength is from 0 to {MAX_STRENGTH:g}, not {strength:g}")
    require(neighbors > 0 or blend == 1, f"blend={blend:g} is the share of neighbors: give neighbors=4, too")
    require(
        strength == 1 or not neighbors or blend < 1,
        f"strength={strength:g} changes the decoded envelope, and the neighbors' replaces all of it: give blend=0.5, or only one",
    )


def _front_end_of(model: Model) -> FrontEnd:
    """The front end of a model's frames.

    Raises:
        BuildError: the model cannot convert voices.
    """
    names = list(model.factors)
    if "speaker" not in names or len(names) < 2:
        raise BuildError(
            f"voice conversion needs a model with a factor 'speaker' and a factor for the content.{nearest('speaker', names)}\n"
            f"  its factors: {', '.join(names) or 'none'}; see recipes/voice_conversion.py"
        )
    if model.decoder is None or "causal" in model.decoder.provides:
        raise BuildError(
            "voice conversion needs a decoder that is not causal: one that returns all frames of a code at once"
        )
    if model.signature is None:
        raise BuildError("the model was built without data=, so the front end of its frames is unknown")
    forms = {
        model.signature[field].form for field in (*(p.input for p in model.factors.values()), model.output)
    }
    form = forms.pop()
    if forms or form is None:
        raise BuildError(
            "voice conversion needs a model whose input and output are frames of one front end (data sets speech, asterisk, "
            f"...); the front ends of its fields: {', '.join(sorted(map(str, {form, *forms})))}"
        )
    return frontend(form)


def _content_factor(model: Model) -> Factor:
    """The only factor beside the speaker whose code has a token for every few frames.

    Raises:
        BuildError: there is none, or several.
    """
    found = [factor for name, factor in model.factors.items() if name != "speaker" and not factor.pool]
    if len(found) != 1:
        names = ", ".join(factor.name for factor in found) or "none"
        raise BuildError(f"neighbors need one factor of content that is not pooled; this model has: {names}")
    return found[0]


def _frames_per_token(factor: Factor, channels: int) -> int:
    """Frames that a token covers.

    Raises:
        BuildError: tokens do not cover equally many frames.
    """
    counts = [factor.count({factor.input: torch.zeros(1, frames, channels)}) for frames in (1, 1000, 1024)]
    stride = 1024 // counts[2]
    if counts != [math.ceil(frames / stride) for frames in (1, 1000, 1024)]:
        raise BuildError(
            f"neighbors need a content factor whose tokens cover equally many frames; {factor.name} has {counts[1]} tokens for "
            "1000 frames"
        )
    return stride


def _pitch_statistics(sounds: Sequence[Sound]) -> PitchStatistics | None:
    pitches = [each.pitch for each in sounds if each.pitch is not None]
    return pitch_statistics(*pitches) if pitches else None


def _mean_code(codes: Sequence[Code]) -> Code:
    return Code.of(codes[0], z=torch.stack([each.point for each in codes]).mean(0))
