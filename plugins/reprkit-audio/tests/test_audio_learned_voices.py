"""Warnings of a conversion whose recordings differ from what the model learned."""

import json

import pytest
import torch
from reprkit_audio import conversion
from reprkit_audio.conversion import convert
from reprkit_audio.converter import Converter
from reprkit_audio.learned_voices import (
    FILE,
    OutsideTrainingWarning,
    _select_figures,
    bandwidth,
    describe_voices,
    level,
    read_learned_voices,
)
from synthetic_voices import RATE, voice

import reprkit as rk
from reprkit.commands.main import main
from reprkit.data import sound
from reprkit.data.resampling import resample
from reprkit.errors import CheckpointError, DataError


def noisy(take, low):
    """A take with noise of its own over the whole band, as every real recording has."""
    wave = voice(1.2, low, low * (1.2 + 0.05 * take))[0]
    noise = torch.randn(len(wave), generator=torch.Generator().manual_seed(take))
    return wave + 0.004 * noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of an untrained model of two voices, with their statistics."""
    root = tmp_path_factory.mktemp("voices")
    for speaker, low in (("ann", 180.0), ("bob", 95.0)):
        for take in range(6):
            sound.write(root / speaker / f"{take}.wav", noisy(take, low), RATE)
    data = rk.dataset(f"reprkit-audio/speech(root={str(root)!r}, frames=32)")
    model = rk.build(
        data=data,
        factors={
            "content": rk.factor("instance-norm(width=8, depth=1, stride=2)"),
            "speaker": rk.factor("voice(width=8, depth=1, layers=0)", pool=True),
        },
        decoder="adain(width=8, depth=1, stride=2, condition_dim=8)",
        objective="reconstruction",
    )
    learned = describe_voices(Converter(model), data)
    model.save(root / "model")
    learned.save(root / "model")
    return root


@pytest.fixture(scope="module")
def converter(folder):
    return Converter(folder / "model")


@pytest.fixture
def messages(folder, converter):
    """The messages on a waveform as the source, and on the model itself, by the folder's file."""

    def found(wave, language=None):
        learned = read_learned_voices(folder / "model")
        return [*learned.own_warnings(language), *learned.warnings(wave, converter, "the source", language)]

    return found


def change(folder, **changes):
    """The same folder with other facts in its file; returns the former content."""
    path = folder / "model" / FILE
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | changes))
    return path, before


def test_training_speech_gives_no_warning_and_the_model_learned_its_speakers(folder, converter, messages):
    learned = read_learned_voices(folder / "model")
    assert learned.speakers == ("ann", "bob")
    assert learned.languages == ()
    assert learned == converter.learned
    assert messages(noisy(2, 180.0)) == messages(noisy(3, 95.0)) == []


def test_each_difference_has_a_message(messages):
    wave = noisy(2, 180.0)
    assert any("the source has a level of" in each for each in messages(0.1 * wave))
    narrow = resample(resample(wave, RATE, 8000), 8000, RATE)
    assert any("holds no sound above" in each for each in messages(narrow))
    noise = 0.2 * torch.randn(len(wave), generator=torch.Generator().manual_seed(0))
    found = messages(wave + noise)
    assert any("sounds unlike the training speech" in each for each in found)
    assert messages(wave[: RATE // 2] * 0.1) == []  # too short to compare


def test_another_voice_warns_unless_the_model_reaches_unseen_voices(folder, messages):
    learned = read_learned_voices(folder / "model")
    center = torch.tensor(next(iter(learned.centers.values())))
    far = {
        name: (-center).tolist() for name in learned.centers
    }  # every voice is now opposite of what was learned
    path, before = change(folder, centers=far)
    try:
        assert any("unseen voices were not measured" in each for each in messages(noisy(0, 180.0)))
        change(folder, figures={"unseen": {"nearest": 0.2}})
        assert any("only 0.20 of the conversions of unseen" in each for each in messages(noisy(0, 180.0)))
        change(folder, figures={"unseen": {"nearest": 0.6}})
        assert not any("voice unlike" in each for each in messages(noisy(0, 180.0)))
    finally:
        path.write_text(before)


def test_language_and_own_figures(folder, messages):
    path, before = change(folder, languages=["en", "it"])
    try:
        source = noisy(1, 95.0)
        assert messages(source, language="it") == messages(source) == []
        (found,) = messages(source, language="ru")
        assert found == "the source is in 'ru', and the model was trained on en, it"
        change(folder, figures={"wer": 0.95, "copy": {"wer": 0.05}, "nearest": 0.3})
        lost, other = messages(source)
        assert "word error rate of 0.95, copy synthesis 0.05" in lost
        assert "only 0.30 of the model's conversions" in other
        change(folder, figures={"wer": 0.15, "copy": {"wer": 0.05}, "nearest": 0.8})
        assert messages(source) == []
        change(folder, figures={"nearest": 0.8, "second": {"nearest": 0.41}})
        (found,) = messages(source)
        assert "only 0.41 of the model's conversions came nearest to their target, by the second" in found
        rates = {"en": {"wer": 0.1, "copy": {"wer": 0.05}}, "it": {"wer": 0.7, "copy": {"wer": 0.2}}}
        change(folder, figures={"wer": 0.4, "copy": {"wer": 0.15}, "languages": rates})
        assert messages(source) == messages(source, language="en") == []
        (found,) = messages(source, language="it")
        assert "on held-out speech in 'it' the model's conversions had a word error rate of 0.70" in found
    finally:
        path.write_text(before)


def test_figures_for_the_voices_file_include_those_of_the_second_verification_model_if_there_are_any():
    results = {
        "wer": 0.3, "wer_rise": 0.2, "nearer": 0.9, "nearest": 0.8, "chance": 0.25, "n": 48, "dnsmos": 3.0,
        "copy": {"wer": 0.1, "identified": 1.0}, "figures": {"players": object()},
        "languages": {"en": {"n": 4, "converted": {"wer": 0.3, "cer": 0.1}, "copy": {"wer": 0.1, "cer": 0.0}}},
    }  # fmt: skip
    selected = _select_figures(results)
    assert selected == {
        "wer": 0.3, "wer_rise": 0.2, "nearer": 0.9, "nearest": 0.8, "chance": 0.25, "copy": {"wer": 0.1},
        "languages": {"en": {"wer": 0.3, "copy": {"wer": 0.1}}},
    }  # fmt: skip
    second = _select_figures({**results, "second": {"nearest": 0.7, "nearer": 0.8}})
    assert second == selected | {"second": {"nearest": 0.7}}
    assert json.loads(json.dumps(second)) == second
    assert _select_figures(None) == {}


def test_the_command_names_a_language_that_was_not_trained_on(folder, tmp_path, capsys):
    path, before = change(folder, languages=["en", "it"])
    try:
        given = [str(folder / "model"), str(folder / "ann" / "0.wav"), str(folder / "bob" / "0.wav")]
        with pytest.raises(SystemExit) as left:
            main(["voice", "convert", *given, "-o", str(tmp_path / "out.wav"), "--language", "ru"])
    finally:
        path.write_text(before)
    assert left.value.code == 0
    assert "warning: the source is in 'ru', and the model was trained on en, it" in capsys.readouterr().err


def test_the_command_prints_warnings_and_converts(folder, tmp_path, capsys):
    sound.write(tmp_path / "quiet.wav", 0.1 * noisy(2, 180.0), RATE)
    given = [str(folder / "model"), str(tmp_path / "quiet.wav"), str(folder / "bob" / "0.wav")]
    with pytest.raises(SystemExit) as left:
        main(["voice", "convert", *given, "-o", str(tmp_path / "out.wav")])
    assert left.value.code == 0
    shown = capsys.readouterr()
    assert "warning: the source has a level of" in shown.err
    assert "out.wav: 1.2 s" in shown.out
    with pytest.warns(OutsideTrainingWarning) as caught:
        convert(folder / "model", noisy(1, 95.0), 0.1 * noisy(2, 180.0))
    assert any("the target has a level of" in str(each.message) for each in caught)
    assert caught[0].filename == __file__


def test_a_source_may_begin_with_a_minute_of_silence(folder, monkeypatch):
    monkeypatch.setattr(conversion, "TARGET_SECONDS", 0.5)
    wave = torch.cat([torch.zeros(RATE), noisy(1, 95.0)])
    assert convert(folder / "model", wave, noisy(2, 180.0))[0].shape == wave.shape


def test_measures():
    t = torch.arange(RATE) / RATE
    tone = torch.sin(2 * torch.pi * 3000 * t)
    assert level(tone) == pytest.approx(-3.01, abs=0.01)
    assert bandwidth(tone, RATE) == pytest.approx(3000, abs=100)
    assert level(torch.zeros(4)) == pytest.approx(-200)


def test_damaged_and_missing_files(folder, converter, tmp_path):
    assert read_learned_voices(tmp_path) is None
    (tmp_path / FILE).write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_learned_voices(tmp_path)
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="is damaged"):
        read_learned_voices(tmp_path)
    with pytest.raises(CheckpointError, match="save the model first"):
        read_learned_voices(folder / "model").save(tmp_path / "none")
    with pytest.raises(DataError, match="needs whole utterances"):
        describe_voices(converter, rk.dataset("digits"))
