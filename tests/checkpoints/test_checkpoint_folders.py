"""Checkpoint folders: atomic replacement, look-up in a run, loading without imports by the caller."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from checkpoints_made import make, same

import reprkit as rk
from reprkit.checkpoints.save_load import MANIFEST
from reprkit.errors import CheckpointError


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits")


def test_saving_again_replaces_the_checkpoint_and_keeps_other_files(digits, tmp_path):
    folder = make(digits).save(tmp_path / "model")
    (folder / "notes.txt").write_text("mine")
    (folder / "figures").mkdir()
    (folder / "figures" / "a.txt").write_text("too")
    other = make(digits, "gaussian(dim=3)")
    other.save(folder)
    same(other, rk.load(folder), digits.batch(range(4)))
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "figures" / "a.txt").read_text() == "too"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_other_folders_are_not_replaced(digits, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match="is not empty and holds no reprkit.json"):
        make(digits).save(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        make(digits).save(tmp_path / "file")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_failed_save_keeps_the_older_checkpoint(digits, tmp_path, monkeypatch):
    model = make(digits)
    folder = model.save(tmp_path / "model")

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reprkit.checkpoints.save_load.save_model", full)
    with pytest.raises(
        CheckpointError, match="no space left on the disk\n.*older checkpoint there is untouched"
    ):
        make(digits, "gaussian(dim=3)").save(folder)
    same(model, rk.load(folder), digits.batch(range(4)))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("exchange", [True, False])
def test_checkpoint_can_be_loaded_while_it_is_replaced(digits, tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr("reprkit.utils.atomic_files._exchange", lambda *_: False)
    one, other = make(digits, "continuous(dim=2)"), make(digits, "continuous(dim=3)")
    folder = one.save(tmp_path / "model")
    done, faults = threading.Event(), []

    def read():
        while not done.is_set():
            if not (folder / MANIFEST).exists():
                faults.append("none there")

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(30):
        (other if turn % 2 else one).save(folder)
    done.set()
    reader.join()
    if exchange:
        assert not faults
    assert rk.load(folder).latent().in_dim == 3


def test_interrupted_replacement_is_undone(digits, tmp_path):
    """Where folders cannot be exchanged, a process may die between the two renames."""
    folder = make(digits).save(tmp_path / "model")
    folder.rename(tmp_path / ".model.old")
    assert rk.load(folder).latent().in_dim == 4
    assert folder.exists()


def test_load_accepts_the_folder_of_a_run(digits, tmp_path):
    make(digits).save(tmp_path / "run" / "model")
    assert rk.load(tmp_path / "run").latent().in_dim == 4


def test_loading_keeps_the_random_state(digits, tmp_path):
    folder = make(digits).save(tmp_path / "model")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    rk.load(folder)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_loading_needs_no_import_by_the_caller(digits, tmp_path):
    folder = make(digits, "gaussian(dim=2)").save(tmp_path / "model")
    code = f"import reprkit; print(type(reprkit.load({str(folder)!r}).latent()).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "Gaussian"


def test_only_rank_0_writes(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("reprkit.checkpoints.save_load.collectives", SimpleNamespace(is_main=lambda: False))
    make(digits).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
