import math

import pytest
import torch
from reprkit_audio.prosody import PitchStatistics, convert_pitch, pitch_statistics

from reprkit.errors import DataError


def contour(mean, spread, seed=0, frames=4000):
    draw = torch.randn(frames, generator=torch.Generator().manual_seed(seed))
    pitch = (math.log(mean) + spread * draw).exp()
    return torch.where(torch.arange(frames) % 3 == 0, torch.zeros(frames), pitch)


def test_statistics_are_those_of_the_logarithm_of_voiced_frames():
    found = pitch_statistics(torch.tensor([0.0, 100.0, 0.0, 200.0]))
    assert found.mean == pytest.approx(math.log(100) / 2 + math.log(200) / 2)
    assert found.spread == pytest.approx(math.log(2) / 2)
    assert found.frames == 2
    assert pitch_statistics(torch.tensor([0.0, 100.0]), torch.tensor([200.0])) == found


def test_converted_pitch_has_the_targets_statistics_and_the_sources_shape():
    low, high = contour(110, 0.12), contour(210, 0.18, seed=1)
    source, target = pitch_statistics(low), pitch_statistics(high)
    made = convert_pitch(low, source, target)
    found = pitch_statistics(made)
    assert found.mean == pytest.approx(target.mean, abs=1e-4)
    assert found.spread == pytest.approx(target.spread, abs=1e-4)
    assert torch.equal(made > 0, low > 0)
    voiced = low > 0
    assert torch.equal(made[voiced].argsort(), low[voiced].argsort())
    torch.testing.assert_close(convert_pitch(made, target, source), low, rtol=1e-4, atol=1e-3)


def test_scaling_of_the_pitch_is_bounded():
    flat = PitchStatistics(mean=5.0, spread=0.01, frames=3)
    wide = PitchStatistics(mean=5.0, spread=0.5, frames=3)
    pitch = torch.tensor([math.exp(5.0), math.exp(5.02)])
    assert convert_pitch(pitch, flat, wide).log().diff() == pytest.approx(0.04, abs=1e-4)
    monotone = PitchStatistics(mean=5.0, spread=0.0, frames=3)
    assert convert_pitch(pitch, monotone, wide).log().diff() == pytest.approx(0.02, abs=1e-4)


def test_converted_pitch_is_bounded():
    far = PitchStatistics(mean=math.log(2000), spread=0.1, frames=3)
    near = PitchStatistics(mean=math.log(100), spread=0.1, frames=3)
    assert convert_pitch(torch.tensor([100.0, 0.0]), near, far).tolist() == [800.0, 0.0]


@pytest.mark.parametrize("pitches", [(), (torch.zeros(5),), (torch.zeros(0), torch.zeros(3))])
def test_statistics_without_voiced_frames_raise(pitches):
    with pytest.raises(DataError, match="no frame is voiced"):
        pitch_statistics(*pitches)
