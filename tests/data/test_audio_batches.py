"""Audio windows kept in memory equal those of the files."""

import pickle
import wave

import numpy as np
import pytest
import torch

from reprkit.data.collation import collate
from reprkit.data.formats import audio
from reprkit.data.loading.order import Order, loader


@pytest.fixture
def sounds(tmp_path):
    drawn = np.random.default_rng(0)
    for number, (rate, frames) in enumerate(((8000, 900), (8000, 320), (11025, 1500))):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(drawn.integers(-9000, 9000, frames, dtype=np.int16).tobytes())
    return tmp_path


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert torch.equal(one[name], other[name])


@pytest.mark.parametrize("seconds", [None, 0.02])
@pytest.mark.parametrize("labels", [False, True])
def test_batches_equal_the_examples(sounds, seconds, labels):
    data = audio.Audio(sounds, 8000, seconds=seconds, labels=labels)
    for indices in ([1, 0, 1], [2, 1, -1], range(len(data))):  # the second time from memory
        assert_same(data.batch(indices), collate([data[index] for index in indices], data.signature))
    batch = data.batch([0])
    batch["x"].add_(1)
    assert_same(data.batch([0]), collate([data[0]], data.signature))
    with pytest.raises(IndexError):
        data.batch([len(data)])


def test_files_are_read_once(sounds, monkeypatch):
    data, reads = audio.Audio(sounds, 8000, seconds=0.02), []
    read = audio.Audio._read_windows
    monkeypatch.setattr(
        audio.Audio, "_read_windows", lambda self, *which: reads.append(which) or read(self, *which)
    )
    for _ in range(3):
        data.batch([0, 2])
        data.batch([1])
    assert reads == [(0, range(5))]  # 900 frames: five windows of 160, all of the first file
    assert len(pickle.dumps(data)) < len(data) * 160 * 4
    again = pickle.loads(pickle.dumps(data))
    assert_same(again.batch([0, 2]), data.batch([0, 2]))
    assert len(reads) == 2
    monkeypatch.setattr(audio, "MEMORY", 100)
    assert_same(data.batch([0, 2]), again.batch([0, 2]))
    assert reads[2:] == [(0, range(1)), (0, range(2, 3))] * 2  # of both sets


def test_workers_give_the_same_batches(sounds):
    data = audio.Audio(sounds, 8000, seconds=0.02)
    order = Order(len(data), 4, seed=1)
    for one, other in zip(loader(data, order, stop=6), loader(data, order, 0, 2, stop=6), strict=True):
        assert_same(one, other)
