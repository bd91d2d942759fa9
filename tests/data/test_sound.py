"""Reading and writing of sound files: rates, depths, formats, pieces, and files that are not sound."""

import io
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import resample_poly

from reprkit.data import sound
from reprkit.data.resampling import resample
from reprkit.errors import DataError, PartImportError


def tone(seconds, rate=16000):
    return 0.5 * torch.sin(2 * torch.pi * 300 * torch.arange(round(seconds * rate)) / rate)


def noise(seconds, rate, channels=1):
    values = np.random.default_rng(0).standard_normal((round(seconds * rate), channels))
    return (0.1 * values).astype(np.float32)


# In a separate process: one large write to libsndfile's Vorbis encoder overflows the stack and ends the process.
LONG = """
import sys, threading, torch
from reprkit.data import sound
wave = 0.5 * torch.sin(torch.arange(200 * 16000) / 9)
threading.stack_size(1 << 19)
thread = threading.Thread(target=sound.write, args=(sys.argv[1], wave))
thread.start(); thread.join()
sound.write(sys.argv[1] + "x.ogg", wave)
print(sound.duration(sys.argv[1]), sound.duration(sys.argv[1] + "x.ogg"), float(sound.read(sys.argv[1]).abs().max()))
"""


@pytest.mark.slow
def test_long_ogg_files_are_written(tmp_path):
    command = [sys.executable, "-P", "-c", LONG, str(tmp_path / "long.ogg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, (done.returncode, done.stderr)
    one, two, peak = map(float, done.stdout.split())
    assert one == two == 200
    assert 0.45 < peak < 0.55


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus"])
def test_encode_equals_write(tmp_path, suffix):
    wave = tone(1.5)
    sound.write(tmp_path / f"a{suffix}", wave)
    written = sound.read(tmp_path / f"a{suffix}")
    made = sound.read(io.BytesIO(sound.encode(wave.numpy(), suffix=suffix)))
    torch.testing.assert_close(made, written, atol=1e-4, rtol=0)
    if suffix == ".flac":
        whole = (wave * 32767).round().to(torch.int16)
        assert sound.encode(whole.numpy(), suffix=suffix)[:4] == b"fLaC"
        again, _ = soundfile.read(io.BytesIO(sound.encode(whole.numpy(), suffix=suffix)), dtype="int16")
        np.testing.assert_array_equal(again, whole.numpy())


def test_open_file_is_read_without_clipping():
    file = io.BytesIO()
    soundfile.write(file, np.array([0.5, 1.5, -9.0], np.float32), 8000, format="WAV", subtype="FLOAT")
    file.seek(0)
    assert sound.read(file, 8000, limit=False).tolist() == [0.5, 1.5, -9.0]


def test_pieces_of_mp3_equal_the_whole(tmp_path):
    try:
        soundfile.write(tmp_path / "a.mp3", tone(5).numpy(), 16000, format="MP3")
    except (ValueError, soundfile.LibsndfileError):
        pytest.skip("this libsndfile does not write MP3")
    whole, _ = soundfile.read(tmp_path / "a.mp3", dtype="float32")
    pieces = torch.cat(list(sound.blocks(tmp_path / "a.mp3", seconds=0.7)))
    np.testing.assert_allclose(pieces, whole, atol=1e-4)
    part = sound.read(tmp_path / "a.mp3", start=2.0, stop=3.0)
    np.testing.assert_allclose(part, whole[32000:48000], atol=1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_any_rate_is_resampled_and_pieces_have_no_seams(tmp_path, rate):
    wave = noise(1.37, rate, 2)
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    shared = np.gcd(rate, 16000)
    expected = resample_poly(wave.mean(1), 16000 // shared, rate // shared)
    whole = sound.read(tmp_path / "a.wav")
    assert whole.dtype == torch.float32
    np.testing.assert_allclose(whole, expected, atol=1e-6)
    for seconds in (0.003, 0.1, 0.5):
        pieces = list(sound.blocks(tmp_path / "a.wav", seconds=seconds))
        assert len(pieces) > 1.3 / max(seconds, 0.04) * 0.8
        np.testing.assert_allclose(torch.cat(pieces), expected, atol=1e-6)
    np.testing.assert_allclose(
        resample(torch.from_numpy(wave.mean(1)), rate, sound.RATE), expected, atol=1e-6
    )
    if rate == 11025:  # has no sample at 0.5 s
        return
    part = sound.read(tmp_path / "a.wav", start=0.5, stop=1.0)
    assert len(part) == 8000
    assert abs(sound.duration(tmp_path / "a.wav") - 1.37) < 1e-4
    np.testing.assert_allclose(part[200:-200], expected[8200:15800], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_U8", 8e-3),
        ("a.wav", "PCM_16", 4e-5),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "DOUBLE", 1e-6),
        ("a.flac", "PCM_16", 4e-5),
        ("a.aiff", "PCM_S8", 8e-3),
        ("a.wav", "ULAW", 2e-2),
    ],
)
def test_any_depth_is_read(tmp_path, name, subtype, error):
    wave = noise(0.2, 16000)[:, 0]
    soundfile.write(tmp_path / name, wave, 16000, subtype=subtype)
    np.testing.assert_allclose(sound.read(tmp_path / name), wave, atol=error)


@pytest.mark.parametrize("name", ["deep/a.wav", "a.flac", "a.ogg", "a.opus"])
def test_written_sounds_are_read_back(tmp_path, name):
    times = torch.arange(16000) / 16000
    wave = 0.5 * torch.sin(2 * torch.pi * 440 * times)
    sound.write(tmp_path / name, wave)
    again = sound.read(tmp_path / name)
    assert abs(len(again) - 16000) < 700
    assert float(torch.nn.functional.cosine_similarity(again[:15000], wave[:15000], 0)) > 0.98
    sound.write(tmp_path / name, 3 * wave, 8000)
    assert soundfile.info(tmp_path / name).samplerate == 8000
    assert float(sound.read(tmp_path / name).abs().max()) <= 1


def test_invalid_writes_raise(tmp_path):
    wave = torch.zeros(100)
    with pytest.raises(DataError, match=r"'a.wave'.*Did you mean '.wav'"):
        sound.write(tmp_path / "a.wave", wave)
    for bad in (torch.zeros(2, 100), torch.empty(0), torch.tensor([0.0, torch.nan])):
        with pytest.raises(DataError, match="1-D tensor of finite numbers"):
            sound.write(tmp_path / "a.wav", bad)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        sound.write(tmp_path / "file" / "a.wav", wave)


def test_files_that_are_not_sound_raise(tmp_path):
    (tmp_path / "text.wav").write_text("Grüße: this is not sound\n" * 40)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "bytes.wav").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "some.raw").write_bytes(bytes(range(256)) * 8)
    soundfile.write(tmp_path / "none.wav", np.empty(0), 16000)
    soundfile.write(tmp_path / "big.wav", np.full(100, 9000.0), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 16000, subtype="FLOAT")
    for name, message in (
        ("text.wav", "text.wav' is not a sound file: it holds text"),
        ("empty.wav", "is not a sound file: it is empty"),
        ("bytes.wav", "is not a sound file: "),
        ("some.raw", "is not a sound file: "),
        ("none.wav", "holds no sound"),
        ("big.wav", "values up to 9000.*\n.*32768"),
        ("nan.wav", "not finite"),
        ("missing.wav", "is not there"),
        (".", "is a folder"),
    ):
        with pytest.raises(DataError, match=message):
            sound.read(tmp_path / name)
    soundfile.write(tmp_path / "short.wav", noise(0.2, 16000), 16000)
    with pytest.raises(DataError, match="holds no sound from second 3 on"):
        sound.read(tmp_path / "short.wav", start=3)
    for wrong in ({"rate": 0}, {"start": 2.0, "stop": 1.0}, {"start": -1.0}):
        with pytest.raises(DataError, match="seconds above 0"):
            sound.read(tmp_path / "short.wav", **wrong)


def test_slightly_too_loud_samples_are_clipped(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([0.5, 1.2, -1.7, 0.25]), 16000, subtype="FLOAT")
    assert sound.read(tmp_path / "a.wav").tolist() == [0.5, 1.0, -1.0, 0.25]


def test_a_file_that_ends_too_early_is_damaged_or_short(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(2.0, 16000), 16000)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is damaged"):
        sound.read(tmp_path / "a.flac")


def test_two_hours_are_read_in_pieces(tmp_path):
    second = (np.sin(np.arange(4000) * 0.1) * 8000).astype(np.int16)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 4000, 1, "PCM_16") as opened:
        for _ in range(72):
            opened.write(np.tile(second, 100))
    assert sound.duration(tmp_path / "long.wav") == 7200
    longest = total = 0
    for piece in sound.blocks(tmp_path / "long.wav", 4000, seconds=60):
        longest, total = max(longest, len(piece)), total + len(piece)
    assert longest == 60 * 4000
    assert total == 7200 * 4000


def test_missing_soundfile_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    for call in (
        lambda: sound.read(tmp_path / "a.wav"),
        lambda: sound.check_file(tmp_path / "a.wav"),
        lambda: sound.duration(tmp_path / "a.wav"),
        lambda: sound.write(tmp_path / "a.wav", tone(1)),
        lambda: sound.encode(tone(1).numpy()),
    ):
        with pytest.raises(PartImportError, match=r"package soundfile(?s:.*)pip install 'reprkit\[audio\]'"):
            call()


def test_values_beyond_full_scale_are_clipped_with_a_warning(tmp_path, recwarn):
    wave = torch.linspace(-1, 1, 800)
    sound.write(tmp_path / "full.wav", wave)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"loud.wav: values up to 2.1 are clipped to \[-1, 1\]") as warned:
        sound.write(tmp_path / "loud.wav", 2.1 * wave)
    assert len(warned) == 1
    assert float(sound.read(tmp_path / "loud.wav").abs().max()) == pytest.approx(1.0, abs=1e-3)
