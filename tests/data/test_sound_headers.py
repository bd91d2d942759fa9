"""Sound whose header is wrong about its length, and channels that cancel."""

import io
import struct

import numpy as np
import pytest
import soundfile
import torch

import reprkit as rk
from reprkit.data import sound, sound_headers
from reprkit.errors import DataError

RATE = 16_000


def tone(seconds=2.0):
    return (0.3 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def wav(path, claimed, wave, after=b""):
    """Write 16-bit WAV whose header claims this many bytes of sound."""
    body = (wave * 32767).astype("<i2").tobytes()
    fields = (b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", claimed)
    path.write_bytes(struct.pack("<4sI4s4sIHHIIHH4sI", *fields) + body + after)
    return path


@pytest.mark.parametrize("claimed", [0, 0xFFFFFFFF, 0x7FFFFFFF])
def test_streamed_wav_is_read_to_its_end(tmp_path, claimed):
    path = wav(tmp_path / "a.wav", claimed, tone())
    np.testing.assert_allclose(sound.read(path), tone(), atol=1e-4)
    np.testing.assert_allclose(sound.read(io.BytesIO(path.read_bytes())), tone(), atol=1e-4)
    np.testing.assert_allclose(sound.read(path, start=0.5, stop=1.0), tone()[8000:16000], atol=1e-4)
    assert sound.duration(path) == 2.0
    assert len(rk.dataset(f"audio(root={str(tmp_path)!r}, seconds=0.5)")) == 4


def test_wav_without_sound_stays_empty(tmp_path):
    for after in (b"", b"LIST" + struct.pack("<I", 4) + b"INFO"):
        with pytest.raises(DataError, match="holds no sound"):
            sound.read(wav(tmp_path / "a.wav", 0, tone()[:0], after))


def mp3(path, mode, wave, channels=1):
    try:
        soundfile.write(
            path,
            np.stack([wave] * channels, 1),
            RATE,
            format="MP3",
            bitrate_mode=mode,
            compression_level=0.5,
        )
    except (TypeError, ValueError, soundfile.LibsndfileError):
        pytest.skip("this libsndfile does not write MP3")
    content = path.read_bytes()
    return content, content[sound_headers._frame_length(content, 0) :]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_without_a_count_is_read_to_its_end(tmp_path, mode, channels):
    wave = np.concatenate([tone(3), 0.1 * np.random.default_rng(0).normal(size=3 * RATE).astype(np.float32)])
    path = tmp_path / "set/a.mp3"
    path.parent.mkdir()
    content, bare = mp3(path, mode, wave, channels)
    known = sound.read(path)
    assert isinstance(sound_headers.with_true_length(path), type(path))
    path.write_bytes(b"ID3\x04\0\0\0\0\0\x10" + bytes(16) + bare)
    found = sound.read(path)
    assert 0 <= len(found) - len(known) < 3 * 1152
    shift = 576  # the file's own first frame says how many samples the encoder adds, too
    torch.testing.assert_close(
        found[8000 + shift : len(known)], known[8000 : len(known) - shift], atol=1e-3, rtol=0
    )
    data = rk.dataset(f"audio(root={str(path.parent)!r}, seconds=0.5)")
    assert data.facts.get("skipped_count") is None
    whole = data.batch(range(len(data)))["x"].reshape(-1)
    torch.testing.assert_close(whole, found[: len(whole)], atol=1e-3, rtol=0)
    path.write_bytes(content + content)
    assert len(sound.read(path)) > 1.9 * len(known)


@pytest.mark.parametrize("samples", [5, 2 * 4096, 3 * 4096 + 17])
def test_streamed_flac_is_read_to_its_end(tmp_path, samples):
    """An encoder that cannot seek leaves the number of samples at 0."""
    wave = 0.1 * np.random.default_rng(0).normal(size=(samples, 2))
    path = tmp_path / "a.flac"
    soundfile.write(path, wave, RATE)
    known, content = sound.read(path), path.read_bytes()
    assert isinstance(sound_headers.with_true_length(path), type(path))
    count = int.from_bytes(content[18:26], "big")
    assert count & (1 << 36) - 1 == samples
    bare = content[:18] + (count & ~((1 << 36) - 1)).to_bytes(8, "big") + content[26:]
    for streamed in (bare, bare + b"TAG" + bytes(125)):
        path.write_bytes(streamed)
        assert torch.equal(sound.read(path), known)
        assert torch.equal(sound.read(io.BytesIO(streamed)), known)
        assert sound.check_file(path).frames == samples
        assert sound.duration(path) == samples / RATE
    if samples > 5:
        assert torch.equal(sound.read(path, start=1000 / RATE, stop=1500 / RATE), known[1000:1500])
    path.write_bytes(bare[:-20])  # its end is missing: the frames cannot be counted
    with pytest.raises((DataError, soundfile.LibsndfileError)):
        sound.check_file(path)


def test_mp3_that_was_cut_short_is_unreadable(tmp_path):
    content, _ = mp3(tmp_path / "a.mp3", "CONSTANT", tone())
    (tmp_path / "a.mp3").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="frames can be read"):
        sound.check_file(tmp_path / "a.mp3")


def test_channels_in_opposite_phase_are_heard(tmp_path):
    wave = tone()
    soundfile.write(tmp_path / "a.wav", np.stack([wave, -wave], 1), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", np.stack([0.9 * wave, -wave], 1), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "c.wav", np.stack([wave, 0 * wave], 1), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "d.wav", np.zeros((RATE, 2)), RATE, subtype="FLOAT")
    np.testing.assert_allclose(sound.read(tmp_path / "a.wav"), wave, atol=1e-6)
    np.testing.assert_allclose(sound.read(tmp_path / "b.wav"), -wave, atol=1e-6)
    np.testing.assert_allclose(sound.read(tmp_path / "c.wav"), wave / 2, atol=1e-6)
    assert not sound.read(tmp_path / "d.wav").any()
    np.testing.assert_allclose(sound.read(io.BytesIO((tmp_path / "a.wav").read_bytes())), wave, atol=1e-6)
    data = rk.dataset(f"audio(root={str(tmp_path)!r})")
    assert data.facts["antiphase_count"] == 2
    assert "2 with channels in opposite phase" in data.summary()
    np.testing.assert_allclose(data[0]["x"][:, 0], wave, atol=1e-6)


def test_sound_without_a_decoder_is_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    (tmp_path / "b.m4a").write_bytes(b"\0" * 100)
    with pytest.raises(
        DataError, match=r"(?s)only 1 of the 2 sound files.*b\.m4a: libsndfile does not decode AAC"
    ):
        rk.dataset(f"audio(root={str(tmp_path)!r})")
    assert rk.dataset(f"audio(root={str(tmp_path)!r}, max_corrupt=0.5)").facts["skipped_count"] == 1
