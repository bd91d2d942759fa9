"""Mel filters, Griffin-Lim and edit distance: equal to torchaudio's, and to their formulas."""

import random

import numpy as np
import pytest
import torch
from reprkit_audio.frontends.mel import from_mel, mel_filters, to_mel
from reprkit_audio.recognition.edit_distance import edit_distance
from reprkit_audio.vocoders.phases import find_phases

SETTINGS = [(513, 80, 16000), (257, 40, 16000), (201, 40, 16000), (1025, 128, 22050), (513, 80, 11025)]


def librosa_filters(n_fft, bands, rate):
    """``librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands)``, written out in float64, transposed."""
    mels = np.linspace(0, 15 + np.log(rate / 2 / 1000) / (np.log(6.4) / 27), bands + 2)
    corners = np.where(mels < 15, 200 / 3 * mels, 1000 * np.exp(np.log(6.4) / 27 * (mels - 15)))
    ramps = corners[:, None] - np.fft.rfftfreq(n_fft, 1 / rate)
    widths = np.diff(corners)[:, None]
    filters = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]))
    return (filters * (2 / (corners[2:] - corners[:-2]))[:, None]).T


@pytest.mark.parametrize(("frequencies", "bands", "rate"), SETTINGS)
def test_mel_filters_are_librosa_s(frequencies, bands, rate):
    expected = librosa_filters(2 * (frequencies - 1), bands, rate)
    np.testing.assert_allclose(mel_filters(frequencies, bands, rate).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("frequencies", "bands", "rate"), SETTINGS[:-1]
)  # torchaudio rounds half of an odd rate
def test_mel_filters_are_torchaudio_s_bit_by_bit(frequencies, bands, rate):
    torchaudio = pytest.importorskip("torchaudio")
    expected = torchaudio.functional.melscale_fbanks(
        frequencies, 0.0, rate / 2, bands, rate, norm="slaney", mel_scale="slaney"
    )
    assert torch.equal(mel_filters(frequencies, bands, rate), expected)


def test_mel_filters_that_lie_between_two_frequencies_are_reported():
    with pytest.warns(UserWarning, match=r"\d+ of 60 mel filters are zero.*65 frequencies"):
        filters = mel_filters(65, 60, 16000)
    assert (filters == 0).all(0).any()


def test_mels_and_back():
    hertz = [0.0, 440.0, 999.0, 1000.0, 6400.0]
    mels = torch.tensor([to_mel(each) for each in hertz], dtype=torch.float64)
    assert mels.tolist() == pytest.approx([0.0, 6.6, 14.985, 15.0, 42.0])
    np.testing.assert_allclose(from_mel(mels).numpy(), hertz, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
def test_griffin_lim_is_torchaudio_s(momentum):
    torchaudio = pytest.importorskip("torchaudio")
    magnitudes = torch.rand(129, 40, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        expected = torchaudio.functional.griffinlim(
            magnitudes, torch.hann_window(256), 256, 64, 256, 1.0, 20, momentum, None, True
        )
        torch.manual_seed(1)
        angles = torch.rand(magnitudes.shape, dtype=torch.complex64)
    found = find_phases(magnitudes, angles, n_fft=256, hop=64, steps=20, momentum=momentum)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_griffin_lim_keeps_the_phases_of_a_consistent_spectrum():
    """The spectrum of a waveform, with its own phases, is where the iteration stays."""
    wave = torch.randn(64 * 39, generator=torch.Generator().manual_seed(0))
    spectrum = torch.stft(wave, 256, 64, window=torch.hann_window(256), return_complex=True)
    magnitudes = spectrum.abs()
    found = find_phases(magnitudes, spectrum / magnitudes, n_fft=256, hop=64, steps=5, momentum=0.0)
    torch.testing.assert_close(found, wave, atol=1e-4, rtol=1e-4)


def test_edit_distances_of_known_pairs():
    known = {("", ""): 0, ("", "abc"): 3, ("abc", ""): 3, ("kitten", "sitting"): 3, ("flaw", "lawn"): 2}
    known |= {("intention", "execution"): 5, ("same", "same"): 0}
    assert {pair: edit_distance(*pair) for pair in known} == known
    assert edit_distance(["the", "cat"], ["the", "black", "cat"]) == 1


def test_edit_distances_are_torchaudio_s():
    torchaudio = pytest.importorskip("torchaudio")
    draw = random.Random(0)
    texts = [[draw.choice("abcd") for _ in range(draw.randrange(30))] for _ in range(20)]
    for one in texts:
        for other in texts:
            assert edit_distance(one, other) == torchaudio.functional.edit_distance(one, other)
