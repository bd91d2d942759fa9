import tracemalloc

import numpy as np
import pytest
import soundfile
import torch
from conformance import check_conformance
from scipy.signal import resample_poly

import reprkit as rk
from reprkit.data import Audio, Order, loader
from reprkit.errors import DataError, PartArgumentError

RATES = {"b/0.wav": 16000, "a/1.flac": 44100, "a/2.wav": 22050, "b/3.wav": 8000, "a/4.wav": 48000}


def noise(seconds, rate, channels=1, seed=0):
    values = np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    return (0.1 * values).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "set"
    for number, (name, rate) in enumerate(RATES.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        wave = noise(1.1 + number / 10, rate, channels=1 + number % 2, seed=number)
        soundfile.write(root / name, wave, rate, subtype="PCM_16" if name.endswith("flac") else "FLOAT")
    return root


def test_windows_are_slices_of_the_whole_file(folder):
    windows, whole = Audio(folder, seconds=0.25), Audio(folder)
    check_conformance(windows)
    check_conformance(whole)
    assert windows.files == sorted(RATES)
    assert windows.signature["x"].shape == (4000, 1)
    assert whole.signature["x"].shape == (None, 1)
    place = 0
    for number, name in enumerate(windows.files):
        wave, rate = soundfile.read(folder / name, dtype="float32", always_2d=True)
        assert rate == RATES[name]
        shared = np.gcd(rate, 16000)
        reference = resample_poly(wave.mean(1), 16000 // shared, rate // shared)
        np.testing.assert_allclose(whole[number]["x"][:, 0], reference, atol=1e-6)
        for window in range(len(wave) * 16000 // rate // 4000):
            cut = reference[window * 4000 : (window + 1) * 4000]
            np.testing.assert_allclose(windows[place]["x"][:, 0], cut, atol=1e-6)
            place += 1
    assert place == len(windows)


def test_whole_files_are_padded_under_a_mask(folder):
    data = Audio(folder)
    batch = data.batch(range(len(data)))
    lengths = [len(data[index]["x"]) for index in range(len(data))]
    assert batch["x_mask"].sum(1).tolist() == lengths
    assert batch["x"].shape == (5, max(lengths), 1)
    assert data.lengths()["x"].tolist() == lengths
    assert bool((batch["x"][~batch["x_mask"]] == 0).all())


def test_resampled_tone_keeps_pitch_and_loudness(tmp_path):
    times = np.arange(44100) / 44100
    soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 440 * times), 44100, subtype="FLOAT")
    for data, length in ((Audio(tmp_path, 8000), 8000), (Audio(tmp_path, 8000, seconds=0.5), 4000)):
        for index in range(len(data)):
            made = data[index]["x"][:, 0].numpy()
            at = (np.arange(length) + index * length) / 8000
            expected = 0.5 * np.sin(2 * np.pi * 440 * at)
            inner = slice(100, -100)  # the file's own borders ring
            assert np.abs(made[inner] - expected[inner]).max() < 2e-3


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 1 / 120), ("wav", "PCM_16", 1e-4), ("wav", "PCM_24", 1e-6), ("flac", "PCM_16", 1e-4),
        ("aiff", "PCM_16", 1e-4), ("ogg", "VORBIS", 0.1), ("opus", "OPUS", 0.1), ("mp3", "MPEG_LAYER_III", 0.1),
    ],
)  # fmt: skip
def test_formats(tmp_path, suffix, subtype, tolerance):
    times = np.arange(32000) / 16000
    tone = (0.4 * np.sin(2 * np.pi * 300 * times)).astype(np.float32)
    stereo = np.stack([1.5 * tone, 0.5 * tone], 1)
    container = "OGG" if suffix == "opus" else suffix.upper()
    try:
        soundfile.write(tmp_path / f"one.{suffix}", stereo, 16000, format=container, subtype=subtype)
    except (ValueError, soundfile.LibsndfileError):
        pytest.skip(f"this libsndfile does not write {suffix}")
    data, whole = Audio(tmp_path, seconds=0.25), Audio(tmp_path)[0]["x"][:, 0].numpy()
    assert len(data) == len(whole) // 4000
    made = np.concatenate([data[index]["x"][:, 0].numpy() for index in range(len(data))])
    assert np.abs(made - whole[: len(made)]).max() <= 1e-4  # wherever one starts
    sizes = np.abs(np.fft.rfft(made[:32000])) / 16000
    assert sizes.argmax() == 600  # of 300 Hz in two seconds; codecs may shift it by their delay
    assert sizes[600] == pytest.approx(0.4, rel=0.02)
    if tolerance < 0.1:
        assert np.abs(made - tone).max() <= tolerance


def test_labels_are_the_folders(folder):
    data = Audio(folder, labels=True)
    assert data.describe()["classes"] == ["a", "b"]
    assert data.batch(range(5))["label"].tolist() == [0, 0, 0, 1, 1]
    assert data.signature["label"].vocab == 2
    windows = Audio(folder, seconds=0.5, labels=True)
    assert windows.label_values("label").tolist() == windows.batch(range(len(windows)))["label"].tolist()
    assert windows.batch(range(len(windows)))["label"].bincount().tolist() == [7, 4]


def test_create_by_name(folder):
    data = rk.dataset(f"audio(root={str(folder)!r}, rate=8000, seconds=0.5)")
    assert isinstance(data, Audio)
    assert (data.name, data.signature["x"].shape, data.describe()["rate"]) == ("set", (4000, 1), 8000)


def test_unreadable_files_are_skipped_and_named(folder):
    before = Audio(folder, seconds=0.5)
    (folder / "a/0.wav").write_text("this is a text")
    whole = (folder / "a/4.wav").read_bytes()
    (folder / "b/9.wav").write_bytes(b"")
    (folder / "b/8.flac").write_bytes((folder / "a/1.flac").read_bytes()[:20000])
    values = noise(1, 16000)
    values[77] = np.nan
    soundfile.write(folder / "b/7.wav", values, 16000, subtype="FLOAT")
    soundfile.write(folder / "b/6.wav", values[:0], 16000)
    with pytest.raises(DataError, match=r"(?s)only 5 of the 10 sound files.*a/0\.wav.*max_corrupt"):
        Audio(folder, seconds=0.5)
    data = Audio(folder, seconds=0.5, max_corrupt=0.5)
    assert len(data) == len(before)
    assert torch.equal(data[0]["x"], before[0]["x"])
    description = data.split()[0].describe()
    assert description["skipped_count"] == 5
    assert [each["name"] for each in description["skipped"]] == [
        "a/0.wav",
        "b/6.wav",
        "b/7.wav",
        "b/8.flac",
        "b/9.wav",
    ]
    assert "not finite" in description["skipped"][2]["why"]
    (folder / "a/4.wav").write_bytes(whole[:100])
    with pytest.raises(DataError, match=r"a/4\.wav.*no longer is"):
        data.batch(range(len(data)))


def test_short_files_have_no_window_and_silence_is_valid(tmp_path):
    soundfile.write(tmp_path / "short.wav", noise(0.2, 16000), 16000)
    with pytest.raises(DataError, match=r"as long as seconds=0\.5"):
        Audio(tmp_path, seconds=0.5)
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    data = Audio(tmp_path, seconds=0.5)
    assert len(data) == 2
    assert data.batch([0, 1])["x"].abs().max() == 0
    assert "skipped_count" not in data.describe()
    assert len(Audio(tmp_path)) == 2


def test_invalid_arguments_raise(tmp_path, folder):
    with pytest.raises(DataError, match="no folder"):
        Audio(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no files at all"):
        Audio(tmp_path / "empty")
    for wrong in ({"rate": 0}, {"seconds": 0.0}, {"seconds": -1.0}, {"seconds": 1e-9}):
        with pytest.raises(PartArgumentError, match="must be|at least one sample"):
            Audio(folder, **wrong)
    with pytest.raises(DataError, match="lies directly"):
        Audio(folder / "a", labels=True)


def test_split_is_disjoint_and_workers_give_the_same_batches(folder):
    data = Audio(folder, seconds=0.1)
    train, test = data.split(seed=3)
    assert not set(train.indices.tolist()) & set(test.indices.tolist())
    assert len(train) + len(test) == len(data)
    order = Order(len(train), 8, seed=1)
    here, ahead = (list(loader(train, order, workers=workers, stop=4)) for workers in (0, 2))
    assert all(torch.equal(one["x"], two["x"]) for one, two in zip(here, ahead, strict=True))


def test_long_file_is_read_by_seeking(tmp_path):
    rate, seconds = 16000, 600  # 38 MB once decoded
    with soundfile.SoundFile(tmp_path / "long.wav", "w", rate, 1, "PCM_16") as opened:
        for minute in range(seconds // 60):
            opened.write(np.full(60 * rate, minute / 16, np.float32))
    data = Audio(tmp_path, rate=8000, seconds=0.5)
    tracemalloc.start()
    try:
        middle = data[9 * 120 + 60]["x"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert middle.mean().item() == pytest.approx(9 / 16, abs=1e-3)
    assert peak < 2_000_000, peak
