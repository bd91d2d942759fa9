"""Sizes in a manifest are checked against the file of weights before anything is allocated; headers describe what they hold."""

import json

import isolated
import pytest
import torch
from checkpoints_made import make, same

import reprkit as rk
from reprkit.checkpoints.allocation_limit import AllocationLimit
from reprkit.checkpoints.reader import read_header
from reprkit.errors import CheckpointError
from reprkit.runs.filenames import MANIFEST, WEIGHTS


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return make(rk.dataset("digits"), latent="vq(codes=16, dim=4)").save(
        tmp_path_factory.mktemp("sizes") / "m"
    )


LARGE = {
    "codes": lambda m: m["factors"]["code"]["latent"]["arguments"].update(codes=2**24, dim=1024),
    "widths": lambda m: m["factors"]["code"]["encoder"]["arguments"].update(widths=[2**20, 2**20]),
    "many widths": lambda m: m["decoder"]["arguments"].update(widths=[2**14] * 200),
    "shape of the data": lambda m: m["signature"]["x"].update(shape=[2**20, 2**20, 1]),
    "classes": lambda m: m["signature"]["label"].update(vocab=2**40),
    "tokens": lambda m: m["decoder"].update(tokens=2**40),
    "negative tokens": lambda m: m["decoder"].update(tokens=-(2**20)),
}


@pytest.mark.parametrize("large", LARGE)
def test_a_manifest_larger_than_its_weights_allocates_nothing(large, saved, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes())
    manifest = json.loads((saved / MANIFEST).read_text())
    LARGE[large](manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    found, details = isolated.outcome(lambda: rk.load(folder), tmp_path)
    assert found in (isolated.SENTENCE, isolated.SUCCESS), details
    assert found == isolated.SENTENCE or large == "classes", "labels have no weights in this model"


def test_what_fits_is_loaded(saved):
    model = rk.load(saved)
    same(model, rk.load(saved), rk.dataset("digits").batch(range(4)))


@pytest.mark.parametrize(
    "make_tensor",
    [
        lambda: torch.empty(2**40),
        lambda: torch.zeros(2**20, 2**20),
        lambda: torch.ones(3).repeat(2**40),
        lambda: torch.arange(2**40),
        lambda: torch.eye(2**20),
        lambda: torch.linspace(0, 1, 2**40),
        lambda: torch.randn(2**40),
        lambda: torch.zeros(3).new_zeros(2**40),
        lambda: torch.nn.Linear(2**20, 2**20),
        lambda: [torch.zeros(2**24) for _ in range(100)],
        lambda: [torch.zeros(1) for _ in range(20_000)],
    ],
)
def test_the_limit_refuses_before_it_allocates(make_tensor):
    with AllocationLimit([1000]), pytest.raises(CheckpointError, match="the manifest describes"):
        make_tensor()


def test_the_limit_leaves_other_tensors_alone():
    with AllocationLimit([4 * 2**20]):
        layer = torch.nn.Linear(1024, 1024)
        torch.nn.init.orthogonal_(layer.weight)
        assert layer(torch.arange(1024.0).view(1, -1).expand(2, -1)).shape == (2, 1024)


def header_of(path, change):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")
    change(header, name)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        lambda header, name: header[name].update(shape=[2**40]),
        lambda header, name: header[name].update(shape=[-1, -1]),
        lambda header, name: header[name].update(shape=[1.5]),
        lambda header, name: header[name].update(dtype="F31"),
        lambda header, name: header[name].update(dtype=["F32"]),
        lambda header, name: header[name].update(data_offsets=[0]),
        lambda header, name: header[name].update(data_offsets=[-4, 0]),
        lambda header, name: header.update({f"{name}x": header[name]}),
        lambda header, name: header.update({name: None}),
        lambda header, name: header.update(__metadata__={"a": 1}),
        lambda header, name: header.update(__metadata__=[]),
        lambda header, name: header.pop(name),
    ],
)
def test_a_header_that_is_not_true_is_refused(change, saved, tmp_path):
    path = tmp_path / WEIGHTS
    path.write_bytes(header_of(saved / WEIGHTS, change))
    with pytest.raises(CheckpointError):
        read_header(path)
