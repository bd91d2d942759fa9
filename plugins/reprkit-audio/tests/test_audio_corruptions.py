"""Corruption vocal-tract: stretched spectra against WORLD's own, the filter, refusals, and the conformance kit."""

import math

import numpy as np
import pytest
import torch
from reprkit_audio.corruptions.vocal_tract import stretch_levels
from reprkit_audio.formants import stretch_frequency
from reprkit_audio.frontends import frontend
from synthetic_voices import voice

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.errors import BuildError, PartArgumentError
from reprkit.testing import CorruptionConformance
from reprkit.testing.sample_data import SEQUENCES, VECTORS

FORMS = ("world", "log-mel", "world(coefficients=24)", "log-mel(bands=40)")


def frames_of(form):
    """Signature of a front end's frames of any number."""
    front = frontend(form)
    return Signature({"x": Field(kind="sequence", shape=(None, front.channels), form=front.form)})


class TestOneFactor(CorruptionConformance):
    part, data = "reprkit-audio/vocal-tract", frames_of("world")


class TestKnotsAndFilter(CorruptionConformance):
    part, data = "reprkit-audio/vocal-tract(ratio=1.4, knots=3, gain=6.0)", frames_of("log-mel(bands=40)")


@pytest.mark.parametrize("form", FORMS)
def test_levels_are_the_envelope_and_are_invertible(form):
    front = frontend(form)
    frames = front.analyze(voice(seconds=0.3)[0]).frames
    levels, hertz = front.to_levels(frames), front.band_frequencies().double().numpy()
    assert (np.diff(hertz) > 0).all()
    assert hertz[-1] < 8000
    torch.testing.assert_close(front.from_levels(levels), frames, atol=1e-4, rtol=0)
    if front.name == "world":
        spectrum = np.log(front.decode_envelope(frames)) / 2
        expected = [np.interp(hertz, np.linspace(0, 8000, spectrum.shape[1]), row) for row in spectrum]
        assert np.abs(levels.numpy() - expected).mean() < 0.02  # of a linear interpolation
    else:
        torch.testing.assert_close(levels, front.denormalize(frames).log(), atol=1e-4, rtol=0)


def test_the_centers_of_the_bands_are_those_of_the_filters():
    front = frontend("log-mel(n_fft=4096)")
    filters = front.mel_filters()
    weighted = (filters * torch.linspace(0, 8000, len(filters)).unsqueeze(1)).sum(0) / filters.sum(0)
    assert (
        weighted - front.band_frequencies()
    ).abs().max() < 8  # Hz; above 1 kHz the triangles are asymmetric


@pytest.mark.parametrize("ratio", [0.8, 1.0, 1.25])
def test_world_frames_are_stretched_as_their_spectra(ratio):
    """An independent computation: the decoded spectrum's frequency axis, then WORLD's own coding."""
    front = frontend("world")
    frames = front.analyze(voice(seconds=0.3)[0]).frames
    logs = stretch_frequency(np.log(front.decode_envelope(frames)), ratio)
    expected = front.to_levels(front.encode_envelope(np.exp(logs)))
    found = stretch_levels(front, front.to_levels(frames)[None], torch.tensor([[math.log(ratio)]]))[0]
    inner = front.band_frequencies() < 6000  # both repeat the last band, at other frequencies
    off = (found - expected)[:, inner].abs().mean() * 20 / math.log(10)
    assert off < 0.6  # dB
    if ratio != 1:
        assert (front.to_levels(frames) - expected)[:, inner].abs().mean() * 20 / math.log(10) > 2


def test_factors_at_knots_apply_to_their_own_frequencies():
    front = frontend("log-mel")
    levels = torch.zeros(1, 1, 80)
    levels[..., 20], levels[..., 70] = 1, 1
    found = stretch_levels(front, levels, torch.tensor([[0.0, 0.0, 0.2]]))
    hertz = front.band_frequencies()
    assert found[0, 0, 20] == pytest.approx(1)  # below the middle knot nothing moves
    moved = hertz[found[0, 0, 40:].argmax() + 40] / hertz[70]
    assert 1.05 < moved < math.exp(0.2)


def test_an_example_keeps_its_voice_over_time_and_examples_differ():
    data = frames_of("log-mel")
    corrupt = rk.create("corruption", "vocal-tract(gain=6.0)", data=data)
    x = torch.linspace(-1, 1, 80).expand(3, 5, 80)
    made = corrupt({"x": x}, torch.Generator().manual_seed(0))[0]["x"]
    assert torch.equal(made[:, 0], made[:, 4])
    assert (made[0] - made[1]).abs().max() > 0.05


def test_the_filter_stays_within_its_gain():
    data = frames_of("log-mel")
    front = frontend("log-mel")
    corrupt = rk.create("corruption", "vocal-tract(gain=6.0)", data=data)
    made = corrupt({"x": torch.zeros(200, 1, 80)}, torch.Generator().manual_seed(0))[0]["x"]
    gains = (front.to_levels(made) - front.to_levels(torch.zeros(1))) * 20 / math.log(10)
    assert 5.5 < gains.abs().max() <= 6.0 + 1e-3
    assert gains.mean().abs() < 0.5


@pytest.mark.parametrize("argument", ["ratio=1.0", "ratio=3", "knots=0", "gain=-1"])
def test_arguments_out_of_range_are_refused(argument):
    with pytest.raises(PartArgumentError, match=argument.partition("=")[0]):
        rk.create("corruption", f"vocal-tract({argument})", data=frames_of("world"))


def test_other_data_is_refused():
    with pytest.raises(BuildError, match="x is vector"):
        rk.create("corruption", "vocal-tract", data=VECTORS)
    with pytest.raises(BuildError, match="has no form"):
        rk.create("corruption", "vocal-tract", data=SEQUENCES)
