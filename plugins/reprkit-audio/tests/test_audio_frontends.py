import importlib.util
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from reprkit_audio.frontends import Sound, frontend
from reprkit_audio.frontends.log_mel import FLOOR, MEAN, SCALE
from reprkit_audio.frontends.mel import mel_filters
from reprkit_audio.frontends.world import import_pyworld
from synthetic_voices import RATE, voice

from reprkit.errors import (
    DataError,
    PartArgumentError,
    ReferenceSyntaxError,
    ReprkitError,
    UnknownPartError,
)

FORMS = ("log-mel", "log-mel(hop=200, n_fft=800, bands=40)", "world", "world(hop=80, coefficients=24)")


@pytest.mark.parametrize("form", FORMS)
def test_a_form_has_every_setting_and_rebuilds_the_same_front_end(form):
    front = frontend(form)
    again = frontend(front.form)
    assert again == front
    assert again.form == front.form
    assert f"hop={front.hop}" in front.form
    assert "rate=16000" in front.form
    assert frontend(front) is front


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("samples", [1, 159, 160, 161, 4096, 16001])
def test_frames_match_count_and_are_finite_float32(form, samples):
    front = frontend(form)
    sound = front.analyze(voice(seconds=samples / RATE)[0])
    assert isinstance(sound, Sound)
    assert sound.frames.shape == (front.count(samples), front.channels)
    assert sound.frames.dtype == torch.float32
    assert torch.isfinite(sound.frames).all()
    if sound.pitch is not None:
        assert sound.pitch.shape == (len(sound.frames),)
        assert sound.pitch.dtype == torch.float32
        assert sound.aperiodicity.shape == (len(sound.frames), 1)


def test_log_mel_matches_its_definition():
    """Frame 20 by hand: a Hann window around its middle sample, numpy's transform, and the filters."""
    wave, _ = voice()
    front = frontend("log-mel")
    middle = 20 * 256 + 128
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    spectrum = np.abs(np.fft.rfft(wave.double().numpy()[middle - 512 : middle + 512] * window))
    bank = mel_filters(513, 80, 16000).double().numpy()
    expected = (np.log(np.maximum(spectrum @ bank, FLOOR)) - MEAN) / SCALE
    np.testing.assert_allclose(front.analyze(wave).frames[20].numpy(), expected, atol=2e-3)


def test_log_mel_of_a_tone_and_of_silence():
    front = frontend("log-mel")
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)
    middles = front.mel_filters().argmax(0) * 16000 / 1024
    band = front.analyze(tone).frames[30].argmax()
    assert abs(middles[band] - 1000) < 40
    silent = front.analyze(torch.zeros(RATE)).frames
    torch.testing.assert_close(
        front.denormalize(silent), torch.full_like(silent, float(front.denormalize(silent).min()))
    )
    assert float(silent.max()) == pytest.approx((math.log(FLOOR) - MEAN) / SCALE, abs=0.5)


def test_log_mel_of_a_batch_equals_single_ones_and_has_gradients():
    front = frontend("log-mel")
    waves = torch.stack([voice(0.5)[0], voice(0.5, 200.0, 180.0)[0], torch.zeros(8000)]).requires_grad_()
    frames = front.frames(waves)
    for wave, each in zip(waves, frames, strict=True):
        torch.testing.assert_close(front.analyze(wave.detach()).frames, each.detach(), atol=1e-5, rtol=1e-5)
    frames.sum().backward()
    assert torch.isfinite(waves.grad).all()
    assert waves.grad[0].abs().sum() > 0


def test_log_mel_magnitudes_are_restored():
    front = frontend("log-mel")
    mel = torch.rand(7, 80) + 0.01
    torch.testing.assert_close(front.denormalize(front.normalize(mel)), mel)


def test_world_finds_the_pitch():
    wave, pitch = voice(2.0, 100.0, 180.0)
    sound = frontend("world").analyze(wave)
    expected = pitch[:: frontend("world").hop]
    middle = slice(10, 190)
    assert (sound.pitch[middle] > 0).float().mean() > 0.95
    voiced = sound.pitch[middle] > 0
    error = (sound.pitch[middle][voiced] / expected[middle][voiced]).log().abs()
    assert error.median() < 0.01
    assert (error < 0.03).float().mean() > 0.95


def test_world_calls_noise_unvoiced_and_aperiodic():
    noise = 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    sound = frontend("world").analyze(noise)
    assert (sound.pitch > 0).float().mean() < 0.2
    assert sound.aperiodicity.median() > -1
    voiced = frontend("world").analyze(voice()[0])
    assert voiced.aperiodicity[20:80].median() < -5


def test_world_envelope_is_the_inverse_of_its_coding():
    """pyworld's own envelope against the one that frames give back, and again the same frames of that."""
    wave, _ = voice()
    front, world = frontend("world"), import_pyworld()
    samples = wave.double().numpy()
    rough, times = world.dio(samples, RATE, frame_period=10.0)
    envelope = world.cheaptrick(samples, world.stonemask(samples, rough, times, RATE), times, RATE)
    frames = front.analyze(wave).frames
    made = front.decode_envelope(frames)
    assert made.shape == envelope.shape
    difference = 10 * np.abs(np.log10(made[10:90]) - np.log10(envelope[10:90]))
    assert np.median(difference) < 1.0  # dB; 40 coefficients smooth the envelope a little
    means, scales = front._affine()
    again = (world.code_spectral_envelope(made, RATE, 40) - means) / scales
    assert np.abs(again - frames.numpy())[10:90].mean() < 0.15


def test_world_bounds_the_level_of_silence():
    sound = frontend("world").analyze(torch.zeros(RATE))
    assert (sound.pitch == 0).all()
    assert sound.frames.abs().max() < 4


def test_world_without_pyworld_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    import_pyworld.cache_clear()
    with pytest.raises(
        ReprkitError, match="need pyworld, and it is not installed: pip install pyworld-prebuilt"
    ):
        frontend("world").analyze(voice(0.3)[0])
    monkeypatch.undo()
    assert frontend("world").analyze(voice(0.3)[0]).frames.shape[1] == 40


def test_world_without_pkg_resources():
    """A new setuptools has none, and pyworld's own package would not even import."""
    code = (
        "import sys; sys.modules['pkg_resources'] = None\n"
        "from reprkit_audio.frontends.world import import_pyworld\n"
        "print(import_pyworld().get_cheaptrick_fft_size(16000))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "1024", done.stderr


@pytest.mark.parametrize(
    ("form", "error", "says"),
    [
        ("log-mels", UnknownPartError, "Did you mean 'log-mel'"),
        ("log-mel(band=80)", PartArgumentError, "Did you mean 'bands'"),
        ("log-mel(bands=0)", PartArgumentError, "bands=0 must be an integer of at least 1"),
        ("log-mel(n_fft=100)", PartArgumentError, "hop=256 or more"),
        ("log-mel(rate=1.5)", PartArgumentError, "rate=1.5 must be an integer"),
        ("world(rate=8000)", PartArgumentError, "an integer from 12000"),
        ("world(coefficients=1)", PartArgumentError, "from 2"),
        ("log-mel(", ReferenceSyntaxError, "cannot be read"),
    ],
)
def test_invalid_forms_raise(form, error, says):
    with pytest.raises(error, match=says):
        frontend(form)


@pytest.mark.parametrize("form", ["log-mel", "world"])
@pytest.mark.parametrize(
    ("wave", "says"),
    [
        (torch.zeros(0), "no samples"),
        (torch.zeros(2, 100), r"one channel, not torch.float32 \(2, 100\)"),
        (torch.zeros(100, dtype=torch.int16), "int16"),
        (torch.full((100,), float("nan")), "not finite"),
        (np.zeros(100), "ndarray"),
    ],
)
def test_invalid_waveforms_raise(form, wave, says):
    with pytest.raises(DataError, match=says):
        frontend(form).analyze(wave)
