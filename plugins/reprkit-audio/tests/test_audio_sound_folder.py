"""data set sound-folder: what ``rk.dataset(PATH)`` gives of a folder of sounds, its labels, parts and refusals."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from reprkit_audio.frontends import frontend

import reprkit as rk
from reprkit.data import sound
from reprkit.data.raw_input import as_batch
from reprkit.errors import BuildError, DataError
from reprkit.testing import DatasetConformance

RATE = 16_000
CLIPS = {"cat/1.wav": 2.5, "cat/2.wav": 4.2, "owl/1.flac": 3.0, "owl/2.wav": 5.0, "owl/3.wav": 0.9}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("sounds") / "recordings"
    for number, (name, seconds) in enumerate(CLIPS.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        wave = 0.1 * np.random.default_rng(number).normal(size=round(seconds * RATE))
        soundfile.write(root / name, wave, RATE)
    (root / "list.csv").write_text("")
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_a_folder_of_sounds_becomes_frames(folder, capsys):
    data = rk.dataset(folder)
    assert data.reference == f"reprkit-audio/sound-folder(root={str(folder)!r})"
    assert data.signature["x"].shape == (128, 80)
    printed = capsys.readouterr().err
    assert "x: sequence (t=128 c=80), log-mel(" in printed
    assert "label: 2 classes; ignored: 1 .csv; too short: 1" in printed
    assert data.facts["classes"] == ["cat", "owl"]
    frames = frontend("log-mel").analyze(sound.read(folder / "cat/1.wav")).frames
    torch.testing.assert_close(data[0]["x"], frames[:128])
    labels = data.batch(range(len(data)))["label"].tolist()
    assert labels == sorted(labels)
    assert set(labels) == {0, 1}
    assert torch.equal(data.label_values("label"), torch.tensor(labels))


def test_it_conforms(folder):
    case = DatasetConformance()
    case.part = f"sound-folder(root={str(folder)!r}, frames=16)"
    assert case.opens() == "audio"
    from reprkit.testing.kit import failed_checks

    assert failed_checks(case) == {}


@pytest.mark.slow
@pytest.mark.parametrize("front", ["log-mel(hop=200, n_fft=800)", "world(hop=80)"])
def test_files_are_read_by_the_front_end_of_the_form(folder, front):
    file = folder / "cat/1.wav"
    frames = frontend(front).analyze(sound.read(file)).frames
    field = rk.Field(kind="sequence", shape=(None, frames.shape[1]), form=frontend(front).form)
    torch.testing.assert_close(as_batch(str(file), rk.Signature({"x": field}))["x"][0], frames)
    windows = as_batch([file], rk.Signature({"x": replace(field, shape=(100, frames.shape[1]))}))["x"]
    assert len(windows) == -(-len(frames) // 100)
    torch.testing.assert_close(windows[-1], frames[-100:])
    with pytest.raises(DataError, match=r"3\.wav': it has \d+ frames, and the model reads windows of 1000"):
        as_batch(folder / "owl/3.wav", rk.Signature({"x": replace(field, shape=(1000, frames.shape[1]))}))
    with pytest.raises(DataError, match="'hello': it is no name of a sound file"):
        as_batch("hello", rk.Signature({"x": field}))


@pytest.mark.slow
def test_a_model_reads_files_and_refuses_other_frames(folder):
    data = rk.dataset(folder, frames=16, frontend="log-mel(hop=200, n_fft=800)")
    model = rk.build(data=data, encoder="mlp(width=8)", latent="continuous(dim=2)", decoder="mlp(width=8)")
    files = [folder / "cat/1.wav", folder / "owl/2.wav"]
    vectors = rk.embed(model, files)
    assert vectors == pytest.approx(model.represent(files, to="numpy"), abs=1e-5)
    assert len(vectors) == len(as_batch(files[0], data.signature)["x"]) + len(
        as_batch(files[1], data.signature)["x"]
    )
    with pytest.raises(DataError, match=r"its form is log-mel\(.*hop=256.*the model's is log-mel\("):
        rk.embed(model, folder, batch=64)  # the folder holds a list, too, and is read as a data set


def test_parts_share_no_file_where_there_are_enough(folder):
    data = rk.dataset(folder, frames=16)
    parts = data.split(seed=1, valid=True, test_share=0.3, valid_share=0.3)
    files = [{clip.path for clip in part.clips} for part in parts]
    assert sum(map(len, files)) == len(set.union(*files)) == 5
    assert [parts[0].describe()["part"], parts[2].describe()["part"]] == ["train", "test"]


def test_one_file_is_cut_into_pieces_without_a_label(tmp_path):
    soundfile.write(tmp_path / "long.wav", 0.1 * np.random.default_rng(0).normal(size=12 * RATE), RATE)
    data = rk.dataset(tmp_path, seconds=3.0, frames=None)
    assert list(data.signature) == ["x"]
    assert (len(data), data.lengths()["x"].tolist()) == (4, [188] * 4)
    assert sorted(map(len, data.split())) in ([1, 3], [2, 2])
    assert "classes" not in data.facts


def test_waves_by_name_are_too_long_for_a_transformer(folder):
    data = rk.dataset(f"audio(root={str(folder)!r}, rate=48000, seconds=2.0)")
    parts = {"latent": "continuous(dim=2)", "decoder": "mlp(width=8)"}
    with pytest.raises(BuildError, match=r"(?s)attention over 96,000 tokens.*rk\.dataset\('recordings/'\)"):
        rk.build(data=data, encoder="transformer(width=8, heads=1)", **parts)
    with pytest.raises(BuildError, match="decoder transformer: attention over 96,000"):
        rk.build(
            data=data, encoder="gru(width=8)", latent="continuous(dim=2)", decoder="transformer(width=8)"
        )
    whole = rk.dataset(f"audio(root={str(folder)!r})")
    model = rk.build(
        data=whole,
        encoder="transformer(width=8, heads=1, depth=1)",
        latent="continuous(dim=2)",
        decoder="gru(width=8)",
    )
    with pytest.raises(BuildError, match="attention over 80,000 tokens"):
        model.encode(whole.batch([3]))


def test_sounds_shorter_than_a_window_say_so(tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).normal(size=RATE), RATE)
    with pytest.raises(DataError, match="frames=None for whole utterances"):
        rk.dataset(tmp_path)


def test_transcripts_of_any_encoding_are_read_or_named(folder, tmp_path):
    for number in (1, 2, 3):
        (tmp_path / "ann").mkdir(exist_ok=True)
        soundfile.write(
            tmp_path / f"ann/{number}.wav", 0.1 * np.random.default_rng(number).normal(size=RATE), RATE
        )
    (tmp_path / "ann/1.txt").write_bytes("größer\r\n".encode("utf-16"))
    (tmp_path / "ann/2.txt").write_bytes("größer".encode("latin-1"))
    (tmp_path / "ann/notes.txt").write_text("no transcript")
    reference = f"speech(root={str(tmp_path)!r}, frontend='log-mel', frames=None)"
    data = rk.dataset(reference)
    assert [clip.text for clip in data.clips] == ["größer", None, None]
    assert (data.facts["unread_text_count"], data.facts["unread_texts"][0]["name"]) == (1, "ann/2.txt")
    assert "not valid UTF-8" in data.facts["unread_texts"][0]["why"]
    assert data.facts["ignored"] == {"suffix .txt": {"count": 1, "names": ["ann/notes.txt"]}}
    assert [clip.text for clip in rk.dataset(reference, encoding="latin-1").clips] == [
        "größer",
        "größer",
        None,
    ]
