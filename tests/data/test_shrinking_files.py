"""A file that is cut short or goes away while it is trained on ends in one sentence and a saved state, not by a signal."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

import reprkit as rk
from reprkit.data import Arrays
from reprkit.data.formats.images import Images
from reprkit.data.formats.json_lines import JsonLines
from reprkit.data.formats.lines import Lines
from reprkit.data.formats.positional_file import PositionalFile, RowFile
from reprkit.errors import DataError
from reprkit.runs.reader import read_record
from reprkit.training.resume import state

PAGE = 1 << 16  # more than a page of memory: only then does a mapped file raise SIGBUS


def lines(folder):
    path = folder / "a.txt"
    path.write_text("".join(f"{'line' * 50} {number:06}\n" for number in range(2000)))
    return Lines(path, length=16), path


def json_lines(folder):
    path = folder / "a.jsonl"
    path.write_text("".join(f'{{"x": [{number}.0, {"1.5, " * 40}2.0]}}\n' for number in range(2000)))
    return JsonLines(path), path


def array(folder):
    np.save(folder / "x.npy", np.random.default_rng(0).random((2000, 64), dtype=np.float32))
    return Arrays(folder / "x.npy", mmap=True), folder / "x.npy"


def cached_images(folder):
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(8):
        Image.new("RGB", (128, 128), (number, 0, 0)).save(pictures / f"{number}.png")
    data = Images(pictures, 128, cache=folder / "cache")
    data.batch([0])
    return data, next((folder / "cache").glob("*.npy"))


MADE = [lines, json_lines, array, cached_images]


@pytest.mark.parametrize("make", MADE)
def test_file_that_is_cut_short_is_an_error(make, tmp_path):
    data, path = make(tmp_path)
    last = len(data) - 1
    before = data.batch([last])["x"]
    os.truncate(path, 100)
    with pytest.raises(DataError, match=rf"{path.name}' has changed since the data set was constructed"):
        data.batch([last])
    assert before.numel()


@pytest.mark.parametrize("make", MADE)
def test_file_that_is_removed_or_replaced_is_read_on(make, tmp_path):
    """An open file lives on under its old name's absence, as the mapping did."""
    data, path = make(tmp_path)
    before = data.batch([3])["x"]
    path.unlink()
    path.write_bytes(b"another")
    assert torch.equal(data.batch([3])["x"], before)


@pytest.mark.parametrize("workers", [0, 1])
def test_training_ends_in_one_sentence_and_a_saved_state(workers, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((512, 4 * PAGE // 512), dtype=np.float32))
    data = Arrays(tmp_path / "x.npy", mmap=True)
    model = rk.build(
        data=data, encoder="mlp(widths=(4,))", latent="continuous(dim=2)", decoder="mlp(widths=(4,))"
    )

    def train():
        for step in rk.loop(model, data, steps=100, batch=8, workers=workers, out=tmp_path / "run"):
            step.backward(step.model(step.batch).total)
            step.update()
            if step.index == 2:
                os.truncate(tmp_path / "x.npy", 100)

    with pytest.raises(DataError, match="has changed since the data set was constructed") as raised:
        train()
    (saved,) = state.list_saved(tmp_path / "run" / "state")
    done = int(saved.name.removeprefix("step-"))
    assert done >= 3
    assert raised.value.__notes__[-1] == (
        f"  the state of step {done} is saved: resume=True continues from there"
    )
    assert "x.npy' has changed" in read_record(tmp_path / "run")["error"]


def test_masks_of_a_shrunken_file_are_not_read_from_the_mapping(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((400, 300, 1), np.float32))
    np.save(tmp_path / "x_mask.npy", np.ones((400, 300), bool))
    data = Arrays(tmp_path, mmap=True)
    assert data.lengths()["x"].tolist() == [300] * 400
    os.truncate(tmp_path / "x_mask.npy", 200)
    with pytest.raises(DataError, match=r"x_mask.npy' has changed"):
        data.lengths()


def test_positional_file_reads_what_is_asked_and_no_more(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    file = PositionalFile(path, 100)
    assert file.read(10, 13) == bytes([10, 11, 12])
    assert file.read(5, 5) == b""
    with pytest.raises(DataError, match="has changed"):
        file.read(99, 101)
    file.close()
    assert file.read(0, 1) == b"\0"
    with pytest.raises(DataError, match="has changed"):
        PositionalFile(path, 99).read(0, 1)
    with pytest.raises(DataError, match="no longer is"):
        PositionalFile(tmp_path / "b", 1).read(0, 1)


def test_rows_equal_those_of_the_array(tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (7, 2, 3), dtype=np.int16)
    np.save(tmp_path / "x.npy", values)
    offset = np.load(tmp_path / "x.npy", mmap_mode="r").offset
    rows = RowFile(tmp_path / "x.npy", offset, (2, 3), torch.int16)
    for index in ([6, 0, 0], [3], []):
        assert rows.read(torch.tensor(index, dtype=torch.int64)).tolist() == values[index].tolist()
