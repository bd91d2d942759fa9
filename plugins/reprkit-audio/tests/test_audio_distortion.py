import math

import numpy as np
import pytest
import torch
from reprkit_audio import prosody
from reprkit_audio.distortion import (
    WARP,
    SpeechFeatures,
    distortion,
    dtw_path,
    extract_features,
    log_pitch_correlation,
    mel_cepstrum,
    pitch_correlation,
)
from reprkit_audio.formants import formant_ratio, shift_voice, stretch_frequency
from reprkit_audio.frontends.world import World
from synthetic_voices import voice

from reprkit.errors import DataError


def slow(costs):
    """Dynamic time warping as it is written in books: the cost of the best path."""
    n, m = costs.shape
    total = np.full((n, m), np.inf)
    for i in range(n):
        for j in range(m):
            before = [total[a, b] for a, b in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if a >= 0 and b >= 0]
            total[i, j] = costs[i, j] + (min(before) if before else 0)
    return total[-1, -1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (9, 5), (20, 33)])
def test_dtw_path_has_the_least_cost(shape):
    costs = np.random.default_rng(shape[0]).uniform(size=shape)
    path = dtw_path(costs)
    assert path[0].tolist() == [0, 0]
    assert path[-1].tolist() == [shape[0] - 1, shape[1] - 1]
    steps = {tuple(each) for each in np.diff(path, axis=0)}
    assert steps <= {(0, 1), (1, 0), (1, 1)}
    assert costs[path[:, 0], path[:, 1]].sum() == pytest.approx(slow(costs))


def test_mel_cepstra_are_the_coefficients_of_a_known_envelope():
    wanted = np.array([0.8, -0.5, 0.3, 0.0, 0.1])
    straight = np.linspace(0, np.pi, 513)
    warped = straight + 2 * np.arctan(WARP * np.sin(straight) / (1 - WARP * np.cos(straight)))
    log_amplitude = 1.7 + np.cos(np.outer(warped, np.arange(1, 6))) @ wanted
    found = mel_cepstrum(np.exp(2 * log_amplitude)[None], 8)[0]
    assert found == pytest.approx([*wanted, 0, 0, 0], abs=2e-4)


def test_distortion_is_kubicheks_formula():
    rows = np.random.default_rng(0).normal(size=(7, 24))
    moved = rows.copy()
    moved[:, 3] += 0.1
    one, two = (SpeechFeatures(cepstrum=each, pitch=np.full(7, 100.0)) for each in (rows, moved))
    assert distortion(one, one) == 0
    assert distortion(one, two) == pytest.approx(10 / math.log(10) * math.sqrt(2) * 0.1)
    # Said twice as slowly it is the same.
    slow_one = SpeechFeatures(cepstrum=rows.repeat(2, 0), pitch=np.full(14, 100.0))
    assert distortion(one, slow_one) == 0


def test_distortion_of_waveforms():
    glide = voice(0.8, 110, 140)[0]
    seen = extract_features(glide)
    assert seen.cepstrum.shape[1] == 24
    assert extract_features(glide, order=13).cepstrum == pytest.approx(seen.cepstrum[:, :13])
    quiet = extract_features(0.1 * glide)  # the level does not count
    assert distortion(seen, quiet) < 0.2
    other = extract_features(voice(0.8, 210, 240)[0])
    assert distortion(seen, other) > 5 * distortion(seen, quiet)
    silence = torch.cat([torch.zeros(8000), glide, torch.zeros(8000)])
    assert abs(len(extract_features(silence).pitch) - len(seen.pitch)) < 12
    assert pitch_correlation(seen, quiet) > 0.99
    with pytest.raises(DataError, match="is silent"):
        extract_features(torch.zeros(8000))


def test_correlation_uses_voiced_frames_only():
    one = np.array([100.0, 0, 120, 140, 0, 160])
    two = np.array([200.0, 210, 0, 250, 0, 300])
    assert log_pitch_correlation(one, two) == pytest.approx(
        np.corrcoef(np.log([100, 140, 160]), np.log([200, 250, 300]))[0, 1]
    )
    assert math.isnan(log_pitch_correlation(one, np.zeros(6)))
    assert math.isnan(log_pitch_correlation(one, np.full(6, 100.0)))


@pytest.mark.parametrize("ratio", [0.85, 1.0, 1.18])
def test_formant_ratio_is_estimated(ratio):
    front = World()
    low = front.analyze(voice(0.6, 110, 140)[0])
    envelope = np.exp(stretch_frequency(np.log(front.decode_envelope(low.frames)), ratio))
    high = type(low)(frames=front.encode_envelope(envelope), pitch=low.pitch, aperiodicity=low.aperiodicity)
    assert formant_ratio([low], [high], front) == pytest.approx(ratio, rel=0.025)
    target = prosody.PitchStatistics(mean=math.log(220), spread=0.1, frames=10)
    made = shift_voice(low, front, ratio, None, target)
    assert prosody.pitch_statistics(made.pitch).mean == pytest.approx(math.log(220), abs=1e-3)
    assert torch.allclose(made.frames, high.frames, atol=1e-5)


def test_stretching_moves_a_peak():
    spectrum = np.zeros((1, 513))
    spectrum[0, 200] = 1
    assert stretch_frequency(spectrum, 1.25).argmax() == 250
    assert stretch_frequency(spectrum, 1.0) == pytest.approx(spectrum)
    assert stretch_frequency(np.linspace(0, 1, 513)[None], 0.5)[0, -1] == 1  # beyond the end the last value
