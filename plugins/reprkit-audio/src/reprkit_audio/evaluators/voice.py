"""Evaluation of voice conversion by pretrained models."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from reprkit import Dataset, Evaluator, Model
from reprkit.data.resampling import resample
from reprkit.errors import DataError
from reprkit.evaluation.encoding import progress_title, session
from reprkit.registry.constraints import Count, CountOrZero, Positive, Seed
from reprkit.utils.progress import track_progress
from reprkit_audio.converter import MAX_STRENGTH, Converter, check_settings
from reprkit_audio.data.recordings import UtteranceDataset
from reprkit_audio.distortion import distortion, extract_features, log_pitch_correlation, pitch_correlation
from reprkit_audio.evaluators import voice_figures
from reprkit_audio.evaluators.conversion_pairs import (
    Conversion,
    ConversionPair,
    check_utterances,
    conversion_pairs,
    spoken_pairs,
    utterances_by_speaker,
)
from reprkit_audio.evaluators.enrolled_speakers import GENERATED, EnrolledSpeakers
from reprkit_audio.evaluators.scores import add_scores, nan_mean
from reprkit_audio.evaluators.spoken_words import SpokenClip, error_rates, rates_by_language, recognize
from reprkit_audio.formants import formant_ratio, shift_voice
from reprkit_audio.frontends import Sound
from reprkit_audio.frontends.world import World
from reprkit_audio.prosody import pitch_statistics
from reprkit_audio.recognition import second_verification, speech_quality, speech_recognition
from reprkit_audio.recognition.speaker_verification import RATE, speaker_verifier
from reprkit_audio.vocoders import vocoder
from reprkit_audio.waveforms import is_silent

_FORMANT_UTTERANCES = 5  # utterances on which a voice's formants are estimated
# Section of the results -> the version that is recognized.
_RECOGNIZED = {"natural": "source", "copy": "copy", "self": "self", "converted": "converted"}

Wave = Float[Tensor, " samples"]


class Voice(Evaluator):
    """Converts held-out utterances and evaluates the results, beside a baseline without learning.

    By Resemblyzer, with a speaker's centroid the mean over real utterances of ``fit_on`` (of ``data`` if ``fit_on`` lacks the
    speaker): ``nearer``: share of conversions nearer to the target's centroid than to the source's; ``nearest``: share whose
    nearest centroid of all is the target's (chance is ``chance``); ``similarity``, ``similarity_source``: mean cosines.
    ``second.NAME`` is the same, for all versions, by a network of another origin
    (``reprkit_audio.recognition.second_verification``).
    By Whisper-base, on up to ``clips`` other utterances of each language whose text is known (``words_n`` in all): ``wer`` and
    ``cer``, word and character error rate of the conversions to another speaker (``reprkit_audio.recognition.word_errors``);
    ``wer_rise``, the rise over copy synthesis (``copy.wer``); ``self.wer``: of conversions to the own speaker, with the voice of
    another utterance; ``languages``: the rates of each version in each language; ``words_nearer``, ``words_nearest``: speaker
    scores of the same conversions.
    By DNSMOS: ``dnsmos``, the predicted mean opinion score of up to ``rated`` of the conversions, 1 to 5.
    By WORLD: ``pitch_correlation`` of the log-pitch with the source's; and if the target speaker says the same words,
    ``parallel.mcd``: mel-cepstral distortion to that utterance, dB (``reprkit_audio.distortion``), ``parallel.pitch_correlation``,
    and ``parallel.unconverted``: the source's own distortion.

    ``copy.NAME`` is the source through front end and vocoder alone, ``natural.NAME`` the recording: for both, ``identified``
    is the share whose own speaker is nearest.  ``shift.NAME`` is the baseline: the source's formants scaled by the ratio
    of the two voices and its pitch converted, by WORLD (``reprkit_audio.formants``).  ``paired.better`` is the share of conversions
    nearer to the target than the baseline's, ``paired.p`` that of the sign test.

    Attributes:
        recognizer: what recognizes the words, a callable (waveform of 16 kHz, language) -> text; Whisper-base if None.  Assign
            another one to judge by it: ``judge = rk.create("evaluator", "voice"); judge.recognizer = ...``.
        conversion: what converts in place of the model, a callable (source, name of its speaker, name of the target, the target's
            prompts) -> converted ``Sound``, such as ``reprkit_audio.frame_regression``; the model if None.  Front end and vocoder
            are the model's, and so are the speaker codes on the page; ``spread``, ``neighbors``, ``blend`` and ``strength`` are not
            used.

    Args:
        pairs: the most conversions, spread over all ordered pairs of speakers.
        prompts: utterances from which the target's voice is extracted; 1 is one-shot.
        vocoder: a reference; if None, the one for the model's frames that needs no training.
        spread: whether the converted envelope gets the target's deviation (``reprkit_audio.global_variance``).
        neighbors: nearest tokens among those of the target's prompts, whose mean envelope replaces the decoded one
            (``reprkit_audio.converter.Converter``); 0 for none.  Give 20 ``prompts`` or more.
        blend: share of the neighbors' envelope.
        strength: how far the mean envelope goes from the source's own voice to the target's; 1 is as decoded.
        second: whether a second speaker verification model scores the conversions, too: a quarter of a second for each version on
            one core; if None, it is left out with a warning where it is not installed.
        words: whether to recognize words and to rate the quality; if None, a model that is not installed is left out with a
            warning.
        clips: the most utterances of a language whose words are recognized, five seconds a version of each on one core.
        languages: of these utterances; all if None.
        targets: the only speakers that are converted to; all if None.  ``languages=('it', 'ru'), targets='allison'`` is
            cross-lingual, as Allison speaks neither.
        rated: the most conversions whose quality is rated, one and a half seconds a version of each on one core.
        seconds: shorter utterances are left out, since they do not identify a speaker.
        enroll: the most real utterances of a speaker for the centroid.
        order: mel-cepstral coefficients of the distortion.
        examples: conversions with players on the report's page; 0 for none.
        seed: of the choice of pairs.

    Raises:
        PartArgumentError: an argument out of its range, or what ``converter.check_settings`` refuses.
    """

    renamed_arguments = {"enrol": "enroll"}  # noqa: RUF012

    def __init__(
        self,
        pairs: Count = 48,
        *,
        prompts: Count = 1,
        vocoder: str | None = None,
        spread: bool = True,
        neighbors: CountOrZero = 0,
        blend: Annotated[float, Gt(0), Le(1)] = 1.0,
        strength: Annotated[float, Ge(0), Le(MAX_STRENGTH)] = 1.0,
        second: bool | None = None,
        words: bool | None = None,
        clips: Count = 4,
        languages: str | tuple[str, ...] | None = None,
        targets: str | tuple[str, ...] | None = None,
        rated: Count = 12,
        seconds: Positive = 1.0,
        enroll: Count = 20,
        order: Count = 24,
        examples: CountOrZero = 4,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        check_settings(neighbors, blend, strength)
        self.pairs, self.prompts, self.enroll, self.order = pairs, prompts, enroll, order
        self.vocoder, self.spread, self.words, self.seconds = vocoder, spread, words, float(seconds)
        self.neighbors, self.blend, self.strength = neighbors, float(blend), float(strength)
        self.second = second
        self.clips, self.languages = clips, (languages,) if isinstance(languages, str) else languages
        self.targets = (targets,) if isinstance(targets, str) else targets
        self.rated, self.examples, self.seed = rated, examples, seed
        self.recognizer: speech_recognition.Recognizer | None = None
        self.conversion: Callable[[Sound, str, str, Sequence[Sound]], Sound] | None = None

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """Return the metrics above.

        Raises:
            BuildError: the model cannot convert.
            DataError: data that is not speech of at least two speakers, or has another front end than the model; unknown targets.
            ReprkitError: Resemblyzer is not installed, or with ``words=True`` Whisper, or with ``second=True`` the second model.
        """
        converter = Converter(
            model,
            vocoder=self.vocoder,
            spread=self.spread,
            neighbors=self.neighbors,
            blend=self.blend,
            strength=self.strength,
        )
        speech = check_utterances(data, "voice")
        if speech.frontend != converter.front:
            raise DataError(
                f"the model converts frames of {converter.front.form}, and {speech.name} holds frames of {speech.frontend.form}"
            )
        embed, second = speaker_verifier(), self._second_verifier()
        recognizer, rate = self._recognizer(), self._quality()
        chosen = conversion_pairs(speech, self.pairs, self.prompts, self.seed, self.seconds, self.targets)
        enrolled = self._enroll(speech, fit_on)
        natural = {label: [_read_wave(*each) for each in some] for label, some in enrolled.items()}
        speakers = EnrolledSpeakers(embed, natural)
        conversions = self._convert(converter, speech, chosen, enrolled)
        results: dict[str, Any] = {"chance": 1 / len(speakers.centroids), "n": len(conversions)}
        results |= speakers.score(conversions)
        if second is not None:
            results["second"] = EnrolledSpeakers(second, natural).score(conversions)
        self._measure_signals(results, conversions)
        if rate is not None:
            rated = conversions[: self.rated]
            for name in track_progress(
                ("source", *GENERATED), progress_title("rating"), show=session().progress
            ):
                scores = [each.overall for each in rate([each.waves[name] for each in rated])]
                add_scores(results, name, {"dnsmos": float(np.mean(scores))})
        spoken: list[Conversion] = []
        if recognizer is not None:
            pairs = spoken_pairs(
                speech, self.clips, self.languages, self.prompts, self.seed, self.seconds, self.targets
            )
            if not pairs and self.words:
                raise DataError(f"voice: {speech.name} has no texts, so no word errors: set words=False")
            spoken = self._convert(converter, speech, pairs, enrolled)
        if recognizer is not None and spoken:
            self._measure_words(results, recognizer, speech, spoken)
            found = speakers.score_converted(spoken)
            results |= {f"words_{name}": found[name] for name in ("nearer", "nearest")}
        if self.examples:
            shown = (spoken or conversions)[: self.examples]
            if recognizer is not None and spoken:
                for each in shown:
                    prompt = each.pair.prompts[0]
                    heard = recognizer(_read_wave(speech, prompt), speech.clips[prompt].language)
                    each.heard[voice_figures.PROMPT] = heard
            results["figures"] = voice_figures.figures(converter, speech, shown, speakers.clouds, self.seed)
        return results

    def _enroll(
        self, speech: UtteranceDataset, fit_on: Dataset | None
    ) -> dict[int, list[tuple[UtteranceDataset, int]]]:
        """Speaker label -> real utterances, evenly spaced, as data set and number."""
        enrolled: dict[int, list[tuple[UtteranceDataset, int]]] = {}
        others = fit_on if isinstance(fit_on, UtteranceDataset) else speech
        known = utterances_by_speaker(others, self.seconds)
        available = {others.speakers[label]: numbers for label, numbers in known.items()}
        for label, numbers in utterances_by_speaker(speech, self.seconds).items():
            name = speech.speakers[label]
            source, mine = (others, available[name]) if name in available else (speech, numbers)
            indices = np.linspace(0, len(mine) - 1, min(self.enroll, len(mine))).round().astype(int)
            enrolled[label] = [(source, mine[index]) for index in indices]
        return enrolled

    def _convert(
        self,
        converter: Converter,
        speech: UtteranceDataset,
        chosen: Sequence[ConversionPair],
        enrolled: Mapping[int, list[tuple[UtteranceDataset, int]]],
    ) -> list[Conversion]:
        """Synthesize the waveforms of every conversion pair."""
        world = converter.front if isinstance(converter.front, World) else World(rate=converter.rate)
        shift_vocoder = vocoder("world", form=world)
        voices = {
            label: [_world_sound(*each, world) for each in some[:_FORMANT_UTTERANCES]]
            for label, some in enrolled.items()
        }
        ratios: dict[tuple[int, int], float] = {}
        conversions = []
        for pair in track_progress(chosen, progress_title("converting"), show=session().progress):
            speakers = (pair.speaker, pair.target)
            if speakers not in ratios:
                ratios[speakers] = formant_ratio(voices[pair.speaker], voices[pair.target], world)
            source = speech.sound(pair.source)
            wave = speech.utterance(pair.source).wave
            pitch = pitch_statistics(*_pitches([_world_sound(speech, n, world) for n in pair.prompts]))
            shifted = shift_voice(
                _world_sound(speech, pair.source, world), world, ratios[speakers], None, pitch
            )
            waves = {
                "source": wave,
                "converted": self._convert_one(converter, speech, pair, pair.target, pair.prompts),
                "copy": converter.synthesize(source, len(wave)),
                "shift": shift_vocoder.synthesize(shifted)[: len(wave)],
            }
            if pair.own:
                waves["self"] = self._convert_one(converter, speech, pair, pair.speaker, pair.own)
            if pair.parallel is not None:
                waves["target"] = speech.utterance(pair.parallel).wave
            waves = {name: resample(each, converter.rate, RATE) for name, each in waves.items()}
            conversions.append(Conversion(pair, waves))
        return conversions

    def _convert_one(
        self,
        converter: Converter,
        speech: UtteranceDataset,
        pair: ConversionPair,
        target: int,
        numbers: Sequence[int],
    ) -> Wave:
        """Convert the source of a pair to the voice of a speaker's utterances."""
        source, prompts = speech.sound(pair.source), [speech.sound(number) for number in numbers]
        if self.conversion is None:
            converted = converter.convert(source, converter.voice(prompts))
        else:
            names = speech.speakers
            converted = self.conversion(source, names[pair.speaker], names[target], prompts)
        return converter.synthesize(converted, len(speech.utterance(pair.source).wave))

    def _measure_signals(self, results: dict[str, Any], conversions: Sequence[Conversion]) -> None:
        """Measure pitch against the source, and spectrum and pitch against the target speaker's own utterance."""
        front = World(rate=RATE)
        pitches = {
            name: [front.pitch(each.waves[name]).numpy() for each in conversions]
            for name in ("source", *GENERATED)
        }
        common = [min(map(len, versions)) for versions in zip(*pitches.values(), strict=True)]  # frames
        for name in GENERATED:
            correlations = [
                log_pitch_correlation(source[:frames], other[:frames])
                for source, other, frames in zip(pitches["source"], pitches[name], common, strict=True)
            ]
            add_scores(results, name, {"pitch_correlation": nan_mean(correlations)})
        both = [each for each in conversions if "target" in each.waves]
        if not both:
            return
        for each in both:
            each.features = {
                n: extract_features(w, order=self.order, front=front)
                for n, w in each.waves.items()
                if not is_silent(w)
            }
        for name in ("source", *GENERATED):
            pairs = [(each.features[name], each.features["target"]) for each in both if name in each.features]
            scores = {"mcd": nan_mean([distortion(*pair) for pair in pairs])}
            if name == "source":
                results.setdefault("parallel", {})["unconverted"] = scores["mcd"]
                continue
            scores["pitch_correlation"] = nan_mean([pitch_correlation(*pair) for pair in pairs])
            add_scores(results, name, {"parallel": scores})
        results["parallel"]["n"] = len(both)

    def _recognizer(self) -> speech_recognition.Recognizer | None:
        """What recognizes words; None if it is not installed and ``words`` does not require it.

        Raises:
            ReprkitError: ``words`` is set, and Whisper is not installed.
        """
        if self.words is False:
            return None
        if self.recognizer is not None:
            return self.recognizer
        if self.words or speech_recognition.is_installed():
            return speech_recognition.speech_recognizer()
        _warn_missing("words are not recognized", speech_recognition.MISSING)
        return None

    def _second_verifier(self) -> second_verification.SecondVerifier | None:
        """The second speaker verification model; None as in ``_recognizer``, by ``second``."""
        if self.second is False:
            return None
        if self.second or second_verification.is_installed():
            return second_verification.second_verifier()
        _warn_missing("speakers are verified by one model only", second_verification.MISSING)
        return None

    def _quality(self) -> speech_quality.SpeechQuality | None:
        """What rates the quality; None as in ``_recognizer``."""
        if self.words is False:
            return None
        if speech_quality.is_installed():
            return speech_quality.speech_quality()
        _warn_missing("the quality is not rated", speech_quality.MISSING)
        return None

    def _measure_words(
        self,
        results: dict[str, Any],
        recognizer: speech_recognition.Recognizer,
        speech: UtteranceDataset,
        spoken: Sequence[Conversion],
    ) -> None:
        """Measure word and character errors, and note what was heard."""
        clips = []
        for each in spoken:
            clip = speech.clips[each.pair.source]
            waves = {name: each.waves[version] for name, version in _RECOGNIZED.items()}
            clips.append(SpokenClip(text=clip.text or "", language=clip.language, waves=waves))
        recognize(clips, recognizer)
        for each, spoken_clip in zip(spoken, clips, strict=True):
            each.heard = {version: spoken_clip.heard[name] for name, version in _RECOGNIZED.items()}
        for name in _RECOGNIZED:
            section = results if name == "converted" else results.setdefault(name, {})
            section.update(error_rates(clips, name))
        results |= {
            "wer_rise": results["wer"] - results["copy"]["wer"],
            "languages": rates_by_language(clips),
            "words_n": len(clips),
        }


def _warn_missing(what: str, missing: str) -> None:
    """Warn that a model is not installed, from the line that evaluates."""
    warnings.warn(f"voice: {what}, since {missing}", stacklevel=5)


def _read_wave(data: UtteranceDataset, number: int) -> Wave:
    utterance = data.utterance(number)
    return resample(utterance.wave, utterance.rate, RATE)


def _world_sound(data: UtteranceDataset, number: int, front: World) -> Sound:
    """WORLD's analysis of an utterance; read from the data if that is its front end."""
    return data.sound(number) if data.frontend == front else front.analyze(data.utterance(number).wave)


def _pitches(sounds: Sequence[Sound]) -> list[Tensor]:
    return [each.pitch for each in sounds if each.pitch is not None]
