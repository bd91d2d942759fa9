"""Memory-mapped .npy files are never read whole: not by subsets, workers or other processes."""

import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
import torch
from conformance import check_conformance

import reprkit as rk
from reprkit.data import Arrays, Order, loader
from reprkit.errors import DataError


@pytest.fixture
def folder(tmp_path):
    draws = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    np.save(tmp_path / "set/x.npy", draws.random((40, 6), dtype=np.float32))
    np.save(tmp_path / "set/walk.npy", draws.random((40, 5, 2)))  # float64 is narrowed a batch at a time
    np.save(tmp_path / "set/label.npy", np.arange(40) % 3)
    return tmp_path / "set"


def mapped(folder):
    return Arrays(folder, mmap=True, vocabs={"label": 3})


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_mapped_folder_conforms_and_equals_reading_it(folder):
    data = mapped(folder)
    check_conformance(data)
    assert same(data.batch(range(40)), Arrays(folder).batch(range(40)))


def test_nested_subsets_share_the_mapping(folder, monkeypatch):
    mappings, load = {}, np.load

    def recording_load(file, **options):
        mappings[file.stem] = load(file, **options)
        return mappings[file.stem]

    monkeypatch.setattr(np, "load", recording_load)
    data = mapped(folder)
    part = data.split(seed=1)[0].subset(range(20)).split(seed=2)[1]
    assert set(mappings) == {"x", "walk", "label"}
    for name, mapping in mappings.items():
        assert type(mapping) is np.memmap
        assert part.data._values[name].data_ptr() == mapping.ctypes.data
    assert same(part.batch([0, 2]), data.batch(part.indices[[0, 2]]))


@pytest.mark.parametrize("part", [False, True])
def test_workers_give_the_same_batches(folder, part):
    data = mapped(folder).split(seed=1)[0] if part else mapped(folder)
    order = Order(len(data), 8, seed=1)
    here, ahead = (list(loader(data, order, workers=workers, stop=7)) for workers in (0, 2))
    assert len(here) == 7
    assert all(same(one, two) for one, two in zip(here, ahead, strict=True))


def read_batch(data, place):
    return {name: value.tolist() for name, value in data[place].items()}


@pytest.mark.slow
def test_another_process_maps_the_files_itself(folder):
    np.save(folder / "x.npy", np.random.default_rng(1).random((40, 50_000), dtype=np.float32))  # 8 MB
    data = mapped(folder)
    for each in (data, data.split()[0]):
        assert len(pickle.dumps(each)) < 10_000
        assert list(pickle.loads(pickle.dumps(each))[0]) == list(each[0])
        assert same(pickle.loads(pickle.dumps(each))[3], each[3])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(read_batch, data, 7).result() == read_batch(data, 7)
    sent = pickle.dumps(data)
    np.save(folder / "x.npy", np.ones((4, 6), np.float32))
    with pytest.raises(DataError, match=r"x\.npy.*has changed"):
        pickle.loads(sent)
    (folder / "x.npy").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        pickle.loads(sent)


@pytest.mark.slow
def test_training_on_a_large_file_does_not_read_it(tmp_path):
    stored = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (50_000, 1000))  # 200 MB, sparse
    stored[::500] = 1
    del stored
    code = f"""
import resource
import reprkit as rk
small = rk.dataset({{"x": [[0.0] * 1000] * 4}})
def train(data):
    model = rk.build(data=data, encoder="mlp(widths=(8,))", latent="continuous(dim=2)", decoder="mlp(widths=(8,))")
    for step in rk.loop(model, data, steps=5, batch=4, lr=1e-3, progress=False):
        step.backward(step.model(step.batch).total)
        step.update()
train(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = rk.dataset("arrays(path={str(tmp_path / "x.npy")!r}, mmap=True)")
assert float(data[500]["x"].sum()) == 1000.0
train(data.split()[0])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 60, f"{done.stdout} MB more for a file of 200 MB"


def test_unmappable_files_raise(tmp_path):
    np.save(tmp_path / "columns.npy", np.asfortranarray(np.ones((5, 4))))
    np.save(tmp_path / "other.npy", np.ones((5, 4), ">f4" if sys.byteorder == "little" else "<f4"))
    for name in ("columns", "other"):
        with pytest.raises(DataError, match=r"cannot be memory-mapped.*\n.*ascontiguousarray"):
            Arrays(tmp_path / f"{name}.npy", mmap=True)
        assert len(rk.dataset(tmp_path / f"{name}.npy")) == 5
