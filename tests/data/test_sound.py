"""Reading and writing of sound files; reprkit-audio's tests cover rates, depths, formats and damaged files."""

import io
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from reprkit.data import sound
from reprkit.errors import PartImportError


def tone(seconds, rate=16000):
    return 0.5 * torch.sin(2 * torch.pi * 300 * torch.arange(round(seconds * rate)) / rate)


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
