from types import SimpleNamespace

import pytest
import torch
from reprkit_audio.coded_speech import copy_figures, draw_utterances, joined_errors
from reprkit_audio.opus import opus_copy

import reprkit as rk
from reprkit.errors import DataError, ReprkitError


def clip(text, seconds, language="en"):
    wave = torch.sin(torch.arange(int(seconds * 16000)) * 0.2) * 0.3
    return SimpleNamespace(text=text, language=language, wave=wave, rate=16000)


def test_utterances_are_heard_together_and_errors_counted_over_all():
    clips = [clip("one two", 10), clip("three", 10), clip("four five", 10), clip("sechs", 4, "de")]
    calls = []

    def hear(wave, language):
        calls.append((language, len(wave) / 16000))
        return {"de": "sechs"}.get(language) or ("one two three" if len(calls) == 2 else "four nine")

    rates = joined_errors([each.wave for each in clips], clips, hear)
    # Two of ten seconds fit into 25 s with a pause after each; languages are heard apart.
    assert calls == [("de", 4.5), ("en", 21.0), ("en", 10.5)]
    assert rates["wer"] == pytest.approx(1 / 6)
    assert 0 < rates["cer"] < rates["wer"]


def test_figures_of_copies():
    clips = [clip("one", 2.0)]
    same = copy_figures([clips[0].wave], clips, 250)
    assert same == {"kbit_s": pytest.approx(1.0), "mel_db": 0.0, "voicing": 1.0}
    assert copy_figures([clips[0].wave * 0.5], clips, 500)["mel_db"] == pytest.approx(6.02, abs=0.1)


@pytest.mark.slow
def test_utterances_are_drawn_up_to_the_length_asked():
    speech = rk.dataset("sample-speech(frontend='log-mel', frames=None)")
    drawn = draw_utterances([speech], 12, language="en", texts=True)
    lengths = [len(each.wave) / each.rate for each in drawn]
    assert sum(lengths) >= 12 > sum(lengths[:-1])
    assert all(each.language == "en" and each.text for each in drawn)
    assert [each.path for each in draw_utterances([speech], 12, language="en", texts=True)] == [
        each.path for each in drawn
    ]
    with pytest.raises(DataError, match="language='xx'"):
        draw_utterances([speech], 12, language="xx")


def test_opus_keeps_length_and_pitch_at_six_kilobits():
    wave = clip("", 2.0).wave
    try:
        copy, size = opus_copy(wave)
    except ReprkitError as error:
        pytest.skip(str(error))
    assert len(copy) == len(wave)
    assert 5 < 8e-3 * size / 2 < 8
    peak = torch.fft.rfft(copy).abs().argmax() / 2  # Hz
    assert abs(float(peak) - 0.2 * 16000 / (2 * torch.pi)) < 5
