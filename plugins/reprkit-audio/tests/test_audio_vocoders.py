import dataclasses
import math

import pytest
import torch
from reprkit_audio.frontends import Sound, frontend
from reprkit_audio.prosody import convert_pitch, pitch_statistics
from reprkit_audio.vocoders import Vocoder, vocoder
from synthetic_voices import RATE, voice

from reprkit.errors import DataError, PartArgumentError, UnknownPartError

ROUTES = ("griffin-lim", "world")


def copied(route, wave):
    made = vocoder(route)
    return made.synthesize(made.front.analyze(wave))


def mel_distance(one, two):
    """Mean difference of the magnitudes in mel bands, dB, where either is within 50 dB of its loudest."""
    front = frontend("log-mel")
    levels = [20 / math.log(10) * front.denormalize(front.analyze(each).frames).log() for each in (one, two)]
    audible = torch.maximum(*levels) > levels[0].max() - 50
    return float((levels[0] - levels[1]).abs()[audible].mean())


def pitch_error(one, two):
    """Median difference of the pitch, in semitones, where both are voiced; and in how many frames both are."""
    pitches = [frontend("world").analyze(each).pitch for each in (one, two)]
    voiced = (pitches[0] > 0) & (pitches[1] > 0)
    return float((12 * (pitches[0] / pitches[1]).log2().abs()[voiced]).median()), float(voiced.float().mean())


@pytest.mark.parametrize(
    ("route", "low", "high", "most", "least"),
    [
        ("griffin-lim", 95.0, 130.0, 2.5, 0.5),
        (
            "griffin-lim",
            240.0,
            180.0,
            6.0,
            0.6,
        ),  # mel bands do not resolve its overtones, and their valleys fill
        ("world", 95.0, 130.0, 1.0, 0.9),
        ("world", 240.0, 180.0, 1.5, 0.9),
    ],
)
def test_copy_synthesis_keeps_spectrum_pitch_level_and_length(route, low, high, most, least):
    wave, _ = voice(1.5, low, high)
    made = copied(route, wave)
    assert made.dtype == torch.float32
    assert 0 <= len(made) - len(wave) <= 256
    made = made[: len(wave)]
    assert mel_distance(wave, made) < most
    error, voiced = pitch_error(wave, made)
    assert error < 0.3
    assert voiced > least
    assert float(made.square().mean().sqrt() / wave.square().mean().sqrt()) == pytest.approx(1, abs=0.3)


def test_mel_distance_and_pitch_error_can_fail():
    wave, _ = voice(1.0, 100.0, 120.0)
    other, _ = voice(1.0, 200.0, 240.0)
    assert mel_distance(wave, other) > 9
    assert pitch_error(wave, other)[0] > 5


@pytest.mark.parametrize("route", ROUTES)
def test_the_same_sound_gives_the_same_waveform_and_moves_no_random_state(route):
    made = vocoder(route)
    sound = made.front.analyze(voice(0.5)[0])
    state = torch.random.get_rng_state()
    first = made.synthesize(sound)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(first, vocoder(route).synthesize(sound))


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("samples", [1, 300, 3200])
def test_short_sounds_and_silence(route, samples):
    made = copied(route, torch.zeros(samples))
    assert samples <= len(made) <= samples + 256
    assert made.abs().max() < 1e-2
    assert torch.isfinite(copied(route, voice(samples / RATE)[0])).all()


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_is_louder_than_full_scale(route):
    made = vocoder(route)
    sound = made.front.analyze(voice(0.5)[0])
    louder = sound.frames.clone()
    louder[:, : 1 if route == "world" else None] += 1.5
    wave = made.synthesize(dataclasses.replace(sound, frames=louder))
    assert float(wave.abs().max()) == pytest.approx(1.0, abs=1e-6)


def test_griffin_lim_is_more_consistent_after_more_steps():
    wave, _ = voice(1.0)
    sound = frontend("log-mel").analyze(wave)
    errors = [
        mel_distance(wave, vocoder(f"griffin-lim(steps={steps})").synthesize(sound)[: len(wave)])
        for steps in (1, 60)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_griffin_lim_is_in_time_with_its_frames():
    """A click stays where it is: the frames' centers are half a hop after those of the phases' search."""
    wave = torch.zeros(RATE)
    wave[6000:6010] = 0.9
    made = copied("griffin-lim", wave)
    energy = made.square()
    center = float((energy * torch.arange(len(made))).sum() / energy.sum())
    assert abs(center - 6005) < 64


def test_world_synthesizes_another_pitch():
    wave, _ = voice(1.5, 95.0, 130.0)
    made = vocoder("world")
    sound = made.front.analyze(wave)
    source, target = pitch_statistics(sound.pitch), pitch_statistics(2 * sound.pitch)
    other = made.synthesize(dataclasses.replace(sound, pitch=convert_pitch(sound.pitch, source, target)))
    found = made.front.analyze(other).pitch
    ratio = found[20:120] / sound.pitch[20:120]
    assert float(ratio[torch.isfinite(ratio) & (ratio > 0)].median()) == pytest.approx(2.0, rel=0.02)


def test_world_needs_pitch_but_no_aperiodicity():
    made = vocoder("world")
    wave, _ = voice(1.0)
    sound = made.front.analyze(wave)
    assert (
        pitch_error(wave, made.synthesize(dataclasses.replace(sound, aperiodicity=None))[: len(wave)])[0]
        < 0.3
    )
    with pytest.raises(DataError, match="needs the pitch"):
        made.synthesize(Sound(frames=sound.frames))
    with pytest.raises(DataError, match="3 values of pitch for"):
        made.synthesize(dataclasses.replace(sound, pitch=sound.pitch[:3]))


def test_a_form_chooses_the_vocoder_and_its_settings():
    assert vocoder().form == frontend("log-mel").form
    assert vocoder(form="world(hop=80)").form == frontend("world(hop=80)").form
    chosen = vocoder("griffin-lim(steps=3)", form="log-mel(hop=200, n_fft=800)")
    assert (chosen.steps, chosen.front.hop) == (3, 200)
    assert isinstance(chosen, Vocoder)
    assert vocoder(chosen) is chosen


@pytest.mark.parametrize(
    ("reference", "form", "error", "says"),
    [
        ("griffin-lin", None, UnknownPartError, "Did you mean 'griffin-lim'"),
        ("griffin-lim(step=3)", None, PartArgumentError, "Did you mean 'steps'"),
        ("griffin-lim(steps=0)", None, PartArgumentError, "steps=0 must be an integer of at least 1"),
        ("griffin-lim(momentum=1)", None, PartArgumentError, "below 1"),
        ("griffin-lim", "world", PartArgumentError, "not of 'world"),
        ("world", "log-mel", PartArgumentError, "not of 'log-mel"),
    ],
)
def test_invalid_arguments_raise(reference, form, error, says):
    with pytest.raises(error, match=says):
        vocoder(reference, form=form)


def test_frames_of_another_front_end_raise():
    made = vocoder("griffin-lim")
    with pytest.raises(DataError, match=r"reads frames \(t 80\)"):
        made.synthesize(frontend("world").analyze(voice(0.2)[0]))
    with pytest.raises(PartArgumentError, match="use 'world'"):
        vocoder(made, form="world")
    with pytest.raises(DataError, match="reads frames"):
        made.synthesize(Sound(frames=torch.zeros(0, 80)))
