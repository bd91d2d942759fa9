import importlib.util
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from reprkit_audio.recognition import speaker_verification, speech_recognition
from synthetic_voices import RATE, voice

import reprkit as rk
from reprkit.data import sound
from reprkit.errors import DataError, ReprkitError

resemblyzer = pytest.mark.skipif(
    not speaker_verification.is_installed(),
    reason="needs Resemblyzer's weights: pip install --no-deps Resemblyzer",
)
pocketsphinx = pytest.mark.skipif(
    not speech_recognition.is_installed(), reason="needs pocketsphinx: pip install 'reprkit-audio[judges]'"
)
flite = pytest.mark.skipif(shutil.which("flite") is None, reason="needs the synthesizer flite")
SENTENCES = (
    "Please leave a message after the tone.",
    "The weather today is warm and sunny.",
    "Your account balance is low.",
    "Don't press one for more options.",
)


def slaney(*, y, sr, n_fft, hop_length, n_mels):
    """librosa.feature.melspectrogram, from its description: power, Slaney's mel scale and norm, centered, zero-padded."""
    padded = np.pad(y, n_fft // 2)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
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
    speech_recognition._dictionary.cache_clear()
    assert not speaker_verification.is_installed()
    assert not speech_recognition.is_installed()
    with pytest.raises(ReprkitError, match="pip install --no-deps Resemblyzer"):
        speaker_verification.SpeakerVerifier()
    with pytest.raises(ReprkitError, match=r"pip install 'reprkit-audio\[judges\]'"):
        speech_recognition.SpeechRecognizer(SENTENCES)


def synthesize(tmp_path, sentence, name):
    path = tmp_path / "speech.wav"
    subprocess.run(["flite", "-voice", name, "-t", sentence, "-o", str(path)], check=True)
    return sound.read(path)


@flite
@pocketsphinx
def test_speech_recognition_recognizes_the_sentence(tmp_path):
    recognizer = speech_recognition.SpeechRecognizer(SENTENCES)
    assert recognizer.sentences == sorted(speech_recognition.normalize_text(each) for each in SENTENCES)
    assert "don't press one for more options" in recognizer.sentences
    recognized = [
        recognizer.transcribe(synthesize(tmp_path, each, name))
        for name in ("slt", "rms")
        for each in SENTENCES
    ]
    assert recognized == [speech_recognition.normalize_text(each) for each in SENTENCES] * 2
    noise = 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    assert recognizer.transcribe(noise) in {"", *recognizer.sentences}
    assert (
        recognizer.transcribe(synthesize(tmp_path, SENTENCES[2], "slt")) == recognized[2]
    )  # independent of earlier calls


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


@pocketsphinx
def test_invalid_sentences_raise():
    assert speech_recognition.is_in_vocabulary("Please, LEAVE a message!")
    assert not speech_recognition.is_in_vocabulary("Press 1 for more.")
    assert not speech_recognition.is_in_vocabulary("Prosím, zanechte zprávu.")
    assert not speech_recognition.is_in_vocabulary(None)
    assert not speech_recognition.is_in_vocabulary("...")
    with pytest.raises(DataError, match="no 'zprávu'"):
        speech_recognition.SpeechRecognizer(("leave a message", "zprávu"))
    with pytest.raises(DataError, match="2 to 20 different sentences, not 1"):
        speech_recognition.SpeechRecognizer(("Leave a message!", "leave a message"))


def test_word_error_rate():
    assert speech_recognition.word_error_rate(["the cat sat"], ["The cat, sat."]) == 0
    # One substituted, one left out, one too many; seven words spoken.
    recognized, spoken = ["the dog sat", "a b", "x y z"], ["the cat sat", "a b", "x y"]
    assert speech_recognition.word_error_rate(recognized, spoken) == pytest.approx(2 / 7)
    assert speech_recognition.word_error_rate([""], ["four words are lost"]) == 1
    with pytest.raises(DataError, match="no words"):
        speech_recognition.word_error_rate(["a"], ["..."])


@pytest.mark.slow
@resemblyzer
@pocketsphinx
def test_real_speech_is_recognized():
    data = rk.dataset("reprkit-audio/sample-speech(frontend='log-mel', frames=None)")
    english = [
        number
        for number, clip in enumerate(data.clips)
        if clip.language == "en" and speech_recognition.is_in_vocabulary(clip.text)
    ]
    longest = sorted(
        english, key=lambda number: -len(speech_recognition.normalize_text(data.clips[number].text).split())
    )[:6]
    recognizer = speech_recognition.SpeechRecognizer([data.clips[number].text for number in longest])
    recognized = [recognizer.transcribe(data.utterance(number).wave) for number in longest]
    assert (
        speech_recognition.word_error_rate(recognized, [data.clips[number].text for number in longest]) < 0.2
    )

    long = [number for number in range(len(data.clips)) if len(data.utterance(number).wave) > 2 * RATE]
    owners = [data.clips[number].speaker for number in long]
    rows = speaker_verification.speaker_verifier()([data.utterance(number).wave for number in long])
    cosine = (rows @ rows.T).fill_diagonal_(0)
    right = [owners[near] == own for near, own in zip(cosine.argmax(1).tolist(), owners, strict=True)]
    assert len(set(owners)) == 4
    assert sum(right) >= 0.95 * len(right)
