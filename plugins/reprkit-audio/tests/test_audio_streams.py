from dataclasses import replace

import numpy as np
import pytest
import torch
from reprkit_audio.data import sound_pieces
from reprkit_audio.data.sound_folder import SoundFolder
from reprkit_audio.frontends import Sound, frontend
from reprkit_audio.vocoders import vocoder

import reprkit as rk
from reprkit.commands.main import main
from reprkit.data import Field, Signature, sound
from reprkit.errors import CompressionError, DataError, PartArgumentError
from reprkit.models import file_streams
from reprkit.models.file_streams import (
    compress_file,
    decompress_file,
    is_stream_file,
    read_streams,
    stream_files,
    write_streams,
)

FRAMES, HOP = 8, 256
FORM = frontend("log-mel").form


def run_command(*words):
    with pytest.raises(SystemExit) as exited:
        main([str(word) for word in words])
    assert not exited.value.code


def refused(capsys, *words):
    with pytest.raises(SystemExit) as exited:
        main([str(word) for word in words])
    assert exited.value.code
    return capsys.readouterr().err


def build(seed=0, layers=3, latent="residual-vq(codes=8, layers={layers}, dim=4, kmeans=False)"):
    signature = Signature(
        {
            "x": Field(kind="sequence", shape=(FRAMES, 80), form=FORM),
            "wave": Field(kind="sequence", shape=(FRAMES * HOP, 1), range=(-1.0, 1.0)),
        }
    )
    model = rk.build(
        data=signature,
        encoder="convnext(width=8, depth=1)",
        latent=latent.format(layers=layers),
        decoder="istft(width=8, depth=1)",
        output="wave",
        seed=seed,
    )
    return model.eval()


def noise(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator).cumsum(0).sin() * 0.3


@pytest.fixture
def wav(tmp_path):
    sound.write(tmp_path / "long.wav", noise(30 * HOP + 77))
    return tmp_path / "long.wav"


@pytest.fixture
def short_pieces(monkeypatch):
    monkeypatch.setattr(file_streams, "STEPS", 16)
    monkeypatch.setattr(file_streams, "MARGIN", 12)


def test_frames_of_pieces_are_those_of_the_whole_file(tmp_path):
    sound.write(tmp_path / "a.wav", noise(44100), 44100)
    field = Field(kind="sequence", shape=(FRAMES, 80), form=FORM)
    (whole,) = SoundFolder.read_pieces(tmp_path / "a.wav", field, None, 0)
    for steps, margin in ((16, 4), (7, 0), (62, 5), (500, 3)):
        pieces = list(SoundFolder.read_pieces(tmp_path / "a.wav", field, steps, margin))
        assert sum(piece.units for piece in pieces) == whole.units == 16000
        assert sum(piece.steps for piece in pieces) == whole.steps
        start = 0
        for piece in pieces:
            first = start - piece.before
            assert torch.allclose(piece.values, whole.values[first : first + len(piece.values)], atol=1e-5)
            assert len(piece.values) >= piece.before + piece.steps
            start += piece.steps


def test_a_long_sound_plays_back_with_its_length_and_without_seams(wav, tmp_path, short_pieces):
    model = build()
    stream = compress_file(model, wav)
    assert (stream.units, stream.steps) == (30 * HOP + 77, [16, 15])
    write_streams(tmp_path / "a.rk", [stream])
    (again,) = read_streams(tmp_path / "a.rk")
    assert again == stream
    decompress_file(model, again, tmp_path / "back.wav")
    back = sound.read(tmp_path / "back.wav")
    assert len(back) == stream.units
    (whole,) = SoundFolder.read_pieces(wav, model.signature["x"], None, 0)
    with torch.no_grad():
        codes = model.encode({"x": whole.values[None]}, any_length=True)
        expected = model.decode(codes, length=31 * HOP).x.flatten()[: len(back)].clamp(-1, 1)
    np.testing.assert_allclose(back, expected, atol=1e-4)


@pytest.mark.slow
def test_commands_and_rates(wav, tmp_path, short_pieces, capsys):
    build().save(tmp_path / "model")
    build(seed=1).save(tmp_path / "other")
    sizes = []
    for slots in ("1", "3"):
        run_command(
            "compress", tmp_path / "model", wav, "-o", tmp_path / "a.rk", "--slots", slots, "--overwrite"
        )
        sizes.append((tmp_path / "a.rk").stat().st_size)
    assert sizes[0] < sizes[1]
    run_command("decompress", tmp_path / "model", tmp_path / "a.rk", "-o", tmp_path / "back.flac")
    assert len(sound.read(tmp_path / "back.flac")) == 30 * HOP + 77
    with pytest.raises(CompressionError, match="another model"):
        decompress_file(
            rk.load(str(tmp_path / "other")), read_streams(tmp_path / "a.rk")[0], tmp_path / "b.wav"
        )
    assert not (tmp_path / "b.wav").exists()
    read = ("decompress", tmp_path / "model")
    assert "other" in refused(capsys, *read, tmp_path / "a.rk", "-o", tmp_path / "c.wav", "--output", "other")
    (stream,) = read_streams(tmp_path / "a.rk")
    write_streams(tmp_path / "names.rk", [replace(stream, name="../out.wav")])
    said = refused(capsys, *read, tmp_path / "names.rk", "-o", tmp_path / "folder")
    assert "names no file inside" in said
    assert not any((tmp_path / name).exists() for name in ("c.wav", "out.wav", "folder"))
    with pytest.raises(DataError, match="sound is written to"):
        decompress_file(
            rk.load(str(tmp_path / "model")), read_streams(tmp_path / "a.rk")[0], tmp_path / "b.mp7"
        )


def test_a_continuous_latent_is_refused(wav):
    with pytest.raises(PartArgumentError, match="is continuous, and only discrete codes"):
        compress_file(build(latent="gaussian(dim=4)"), wav)


def test_damage_is_refused(wav, tmp_path, short_pieces):
    write_streams(tmp_path / "a.rk", [compress_file(build(), wav)])
    assert is_stream_file(tmp_path / "a.rk")
    content = (tmp_path / "a.rk").read_bytes()
    for damaged in (content[:-1], content[:30] + bytes([content[30] ^ 1]) + content[31:], b"rkother"):
        (tmp_path / "b.rk").write_bytes(damaged)
        with pytest.raises(CompressionError, match="damaged"):
            read_streams(tmp_path / "b.rk")


def frames_model():
    signature = Signature({"x": Field(kind="sequence", shape=(FRAMES, 80), form=FORM)})
    model = rk.build(
        data=signature, encoder="frames(stride=2)", latent="residual-vq(codes=8, layers=3, dim=160, kmeans=False)",
        decoder="frames(stride=2, width=8, depth=1)", seed=0,
    )  # fmt: skip
    return model.eval()


def test_a_model_of_frames_writes_sound_by_griffin_lim(wav, tmp_path, short_pieces):
    model = frames_model()
    assert stream_files(model, [str(wav)]) == ([wav], SoundFolder)
    decompress_file(model, compress_file(model, wav), tmp_path / "back.wav")
    back = sound.read(tmp_path / "back.wav")
    (whole,) = SoundFolder.read_pieces(wav, model.signature["x"], None, 0)
    with torch.no_grad():
        decoded = model.decode(model.encode({"x": whole.values[None]}, any_length=True), length=31).x[0]
    expected = vocoder("griffin-lim").synthesize(Sound(frames=decoded), limit=False)[: len(back)]
    assert len(back) == 30 * HOP + 77
    np.testing.assert_allclose(back, expected.clamp(-1, 1), atol=1e-3)


@pytest.mark.slow
def test_frames_of_a_long_sound_are_synthesized_in_windows_without_seams(tmp_path, monkeypatch):
    monkeypatch.setattr(sound_pieces, "WINDOW", 40)
    monkeypatch.setattr(sound_pieces, "OVERLAP", 10)
    field = Field(kind="sequence", shape=(FRAMES, 80), form=FORM)
    wave = torch.sin(torch.arange(100 * HOP) * 2 * torch.pi * 440 / 16000) * 0.3
    frames = frontend("log-mel").analyze(wave).frames
    SoundFolder.write_pieces(tmp_path / "a.wav", frames.split(17), field, 100 * HOP - 5)
    back = sound.read(tmp_path / "a.wav")
    assert len(back) == 100 * HOP - 5
    # A seam, such as a lost or doubled window, would differ from the tone's level in some stretch of 50 ms.
    levels = back[HOP * 5 : HOP * 95].unfold(0, 800, 400).square().mean(1).sqrt()
    assert levels.min() > 0.6 * 0.3 / 2**0.5
    assert levels.max() < 1.5 * 0.3 / 2**0.5
    with pytest.raises(DataError, match="ends 1 samples before"):
        SoundFolder.write_pieces(tmp_path / "b.wav", frames.split(17), field, 100 * HOP + 1)
    assert not (tmp_path / "b.wav").exists()


def test_models_that_make_no_sound_keep_their_own_way(wav):
    other = Field(kind="sequence", shape=(FRAMES, 80), form=frontend("log-mel(n_fft=512)").form)
    signature = Signature({"x": Field(kind="sequence", shape=(FRAMES, 80), form=FORM), "y": other})
    model = rk.build(
        data=signature,
        encoder="convnext(width=8, depth=1)",
        latent="vq(codes=8, dim=4)",
        decoder="gru(width=8)",
        output="y",
    )
    assert stream_files(model, [str(wav)]) is None
    assert stream_files(build(), [str(wav)]) == ([wav], SoundFolder)
