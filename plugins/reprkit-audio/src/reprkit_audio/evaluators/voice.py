"""How well a model converts voices, judged by models that were not trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from reprkit import Dataset, Evaluator, Model
from reprkit.data.resampling import resample
from reprkit.errors import DataError
from reprkit.evaluation.encoding import session, titled
from reprkit.registry.constraints import Count, CountOrZero, Positive, Seed
from reprkit.utils.progress import tracked
from reprkit_audio import sound
from reprkit_audio.converter import Converter
from reprkit_audio.data.recordings import UtteranceDataset
from reprkit_audio.distortion import distortion, extract_features, log_pitch_correlation, pitch_correlation
from reprkit_audio.evaluators import voice_figures
from reprkit_audio.evaluators.conversion_pairs import (
    Conversion,
    ConversionPair,
    check_utterances,
    conversion_pairs,
    utterances_by_speaker,
)
from reprkit_audio.evaluators.scores import add_scores, nan_mean, speaker_scores
from reprkit_audio.formants import formant_ratio, shift_voice
from reprkit_audio.frontends import Sound
from reprkit_audio.frontends.world import World
from reprkit_audio.prosody import pitch_statistics
from reprkit_audio.recognition import speech_recognition
from reprkit_audio.recognition.speaker_verification import RATE, speaker_centroid, speaker_verifier
from reprkit_audio.vocoders import vocoder

_SENTENCES = 15  # of the recogniser's grammar
_FORMANT_UTTERANCES = 5  # utterances that a voice's formants are measured on
_GENERATED = ("converted", "copy", "shift")

Wave = Float[Tensor, " samples"]


class Voice(Evaluator):
    """Converts held-out utterances and has the results judged; a baseline without learning is judged beside them.

    By Resemblyzer, whose centre of a speaker is the mean over real utterances of ``fit_on`` (of ``data`` where that does not
    have the speaker): ``nearer``: share of conversions nearer the target's centre than the source's; ``nearest``: nearest the
    target's of all speakers' (chance is ``chance``); ``similarity``, ``similarity_source``: mean cosines.
    By pocketsphinx, where English texts are known: ``wer``, the word error rate among at most 15 sentences of the data, and
    ``wer_rise``, how far it is above that of copy synthesis (``copy.wer``).
    By WORLD: ``pitch_correlation`` of the log-pitch with the source's; and where the target says the same words itself,
    ``parallel.mcd``: mel-cepstral distortion to that, dB (``reprkit_audio.distortion``), ``parallel.pitch_correlation``, and
    ``parallel.unconverted``: the source's own distortion.

    ``copy.NAME`` is the source through front end and vocoder alone, ``natural.NAME`` the recording: for them ``identified`` is
    the share whose own speaker is nearest.  ``shift.NAME`` is the baseline: the source's formants stretched by the ratio of
    the two voices and its pitch moved, by WORLD (``reprkit_audio.formants``).

    Args:
        pairs: how many conversions at most, spread over all ordered pairs of speakers.
        prompts: utterances that the target's voice is taken from; 1 is one-shot.
        vocoder: a reference; None takes the one for the model's frames that needs no training.
        spread: whether the converted envelope gets the target's deviation (``reprkit_audio.global_variance``).
        words: whether words are judged; None: where pocketsphinx is installed.
        seconds: shorter utterances are not used: nobody can be told from them.
        enrol: real utterances of a speaker at most that make the judge's centre.
        order: mel-cepstral coefficients of the distortion.
        examples: conversions to be listened to on the report's page; 0 for none.
        seed: of the choice of pairs.

    Raises:
        PartArgumentError: an argument out of its range.
    """

    def __init__(
        self,
        pairs: Count = 48,
        *,
        prompts: Count = 1,
        vocoder: str | None = None,
        spread: bool = True,
        words: bool | None = None,
        seconds: Positive = 1.0,
        enrol: Count = 20,
        order: Count = 24,
        examples: CountOrZero = 4,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.pairs, self.prompts, self.enrol, self.order = pairs, prompts, enrol, order
        self.vocoder, self.spread, self.words, self.seconds = vocoder, spread, words, float(seconds)
        self.examples, self.seed = examples, seed

    @torch.no_grad()
    def forward(self, model: Model, data: Dataset, fit_on: Dataset | None = None) -> dict[str, Any]:
        """The measures above.

        Raises:
            BuildError: the model cannot convert.
            DataError: data that is no speech of two speakers, or of another front end than the model's.
            ReprkitError: a judge that is not installed.
        """
        converter = Converter(model, vocoder=self.vocoder, spread=self.spread)
        speech = check_utterances(data, "voice")
        if speech.frontend != converter.front:
            raise DataError(
                f"the model converts frames of {converter.front.form}, and {speech.name} holds frames of {speech.frontend.form}"
            )
        judge = speaker_verifier()
        sentences = self._sentences(speech)
        chosen = conversion_pairs(speech, self.pairs, self.prompts, self.seed, self.seconds, sentences)
        enrolled = self._enrolled(speech, fit_on)
        clouds = {label: judge([_wave(*each) for each in enrolled[label]]) for label in sorted(enrolled)}
        centres = {label: speaker_centroid(cloud) for label, cloud in clouds.items()}
        made = self._made(converter, speech, chosen, enrolled)
        found: dict[str, Any] = {"chance": 1 / len(centres), "n": len(made)}
        for name in ("source", *_GENERATED):
            told = judge([each.waves[name] for each in made])
            add_scores(found, name, speaker_scores(told, chosen, centres, own=name in ("source", "copy")))
        self._heard(found, made)
        self._worded(found, sentences, made)
        if self.examples:
            found["figures"] = voice_figures.figures(
                converter, speech, made[: self.examples], clouds, self.seed
            )
        return found

    def _enrolled(
        self, speech: UtteranceDataset, fit_on: Dataset | None
    ) -> dict[int, list[tuple[UtteranceDataset, int]]]:
        """Real utterances of every speaker (label), evenly spaced, as data set and number."""
        found: dict[int, list[tuple[UtteranceDataset, int]]] = {}
        others = fit_on if isinstance(fit_on, UtteranceDataset) else speech
        known = utterances_by_speaker(others, self.seconds)
        there = {others.speakers[label]: numbers for label, numbers in known.items()}
        for label, numbers in utterances_by_speaker(speech, self.seconds).items():
            name = speech.speakers[label]
            home, mine = (others, there[name]) if name in there else (speech, numbers)
            places = np.linspace(0, len(mine) - 1, min(self.enrol, len(mine))).round().astype(int)
            found[label] = [(home, mine[place]) for place in places]
        return found

    def _made(
        self,
        converter: Converter,
        speech: UtteranceDataset,
        chosen: Sequence[ConversionPair],
        enrolled: Mapping[int, list[tuple[UtteranceDataset, int]]],
    ) -> list[Conversion]:
        """Every trial's waveforms."""
        world = converter.front if isinstance(converter.front, World) else World(rate=converter.rate)
        back = vocoder("world", form=world)
        voices = {
            label: [_world_sound(*each, world) for each in some[:_FORMANT_UTTERANCES]]
            for label, some in enrolled.items()
        }
        ratios: dict[tuple[int, int], float] = {}
        made = []
        for trial in tracked(chosen, titled("converting"), show=session().progress):
            pair = (trial.speaker, trial.target)
            if pair not in ratios:
                ratios[pair] = formant_ratio(voices[pair[0]], voices[pair[1]], world)
            source = speech.sound(trial.source)
            wave = speech.utterance(trial.source).wave
            voice = converter.voice([speech.sound(number) for number in trial.prompts])
            pitch = pitch_statistics(*_pitches([_world_sound(speech, n, world) for n in trial.prompts]))
            moved = shift_voice(_world_sound(speech, trial.source, world), world, ratios[pair], None, pitch)
            waves = {
                "source": wave,
                "converted": converter.synthesize(converter.convert(source, voice), len(wave)),
                "copy": converter.synthesize(source, len(wave)),
                "shift": back.synthesize(moved)[: len(wave)],
            }
            if trial.parallel is not None:
                waves["target"] = speech.utterance(trial.parallel).wave
            waves = {name: resample(each, converter.rate, RATE) for name, each in waves.items()}
            made.append(Conversion(trial, waves))
        return made

    def _heard(self, found: dict[str, Any], made: Sequence[Conversion]) -> None:
        """Pitch beside the source's; spectrum and pitch beside the target's own."""
        front = World(rate=RATE)
        for name in _GENERATED:
            beside = [
                log_pitch_correlation(
                    *(
                        front.pitch(each.waves[which]).numpy()[: _common_frames(each)]
                        for which in ("source", name)
                    )
                )
                for each in made
            ]
            add_scores(found, name, {"pitch_correlation": nan_mean(beside)})
        both = [each for each in made if "target" in each.waves]
        if not both:
            return
        for each in both:
            each.features = {
                n: extract_features(w, order=self.order, front=front)
                for n, w in each.waves.items()
                if _is_audible(w)
            }
        for name in ("source", *_GENERATED):
            pairs = [(each.features[name], each.features["target"]) for each in both if name in each.features]
            told = {"mcd": nan_mean([distortion(*pair) for pair in pairs])}
            if name == "source":
                found.setdefault("parallel", {})["unconverted"] = told["mcd"]
                continue
            told["pitch_correlation"] = nan_mean([pitch_correlation(*pair) for pair in pairs])
            add_scores(found, name, {"parallel": told})
        found["parallel"]["n"] = len(both)

    def _sentences(self, speech: UtteranceDataset) -> dict[int, str]:
        """Utterances (by number) that say one of a few English sentences, as the recogniser writes it.

        Raises:
            DataError: words are to be judged, and there are no two sentences.
        """
        if self.words is False or (self.words is None and not speech_recognition.is_installed()):
            return {}
        found: dict[str, list[int]] = {}
        for number, clip in enumerate(speech.clips):
            if clip.language in (None, "en") and speech_recognition.is_in_vocabulary(clip.text):
                found.setdefault(speech_recognition.normalize_text(clip.text or ""), []).append(number)
        if len(found) < 2:
            if self.words:
                raise DataError(
                    f"voice: {speech.name} has no two English texts that the judge of words knows"
                )
            return {}
        # The longest: short ones are easily mistaken, whoever says them.
        longest = sorted(found, key=lambda sentence: (-sentence.count(" "), sentence))[:_SENTENCES]
        return {number: sentence for sentence in longest for number in found[sentence]}

    def _worded(
        self, found: dict[str, Any], sentences: Mapping[int, str], made: Sequence[Conversion]
    ) -> None:
        """Word errors of the trials whose source says one of the sentences."""
        asked = [each for each in made if each.pair.source in sentences]
        if not asked:
            return
        judge = speech_recognition.SpeechRecognizer(list(sentences.values()))
        texts = [sentences[each.pair.source] for each in asked]
        for name in ("source", *_GENERATED):
            said = [judge.transcribe(each.waves[name]) for each in asked]
            add_scores(found, name, {"wer": speech_recognition.word_error_rate(said, texts)})
        for name in ("converted", "shift"):
            home = found if name == "converted" else found[name]
            add_scores(found, name, {"wer_rise": home["wer"] - found["copy"]["wer"]})
        found["wer_n"] = len(asked)


def _wave(data: UtteranceDataset, number: int) -> Wave:
    said = data.utterance(number)
    return resample(said.wave, said.rate, RATE)


def _world_sound(data: UtteranceDataset, number: int, front: World) -> Sound:
    """An utterance as WORLD sees it: what the data holds where its front end is that one."""
    return data.sound(number) if data.frontend == front else front.analyze(data.utterance(number).wave)


def _pitches(sounds: Sequence[Sound]) -> list[Tensor]:
    return [each.pitch for each in sounds if each.pitch is not None]


def _common_frames(made: Conversion) -> int:
    """Frames that every version of the source has."""
    return World(rate=RATE).count(min(len(made.waves[name]) for name in ("source", *_GENERATED)))


def _is_audible(wave: Wave) -> bool:
    return float(wave.abs().max()) >= sound.SILENT
