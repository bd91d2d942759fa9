"""Weights whose type was changed are refused; weights that are not finite are named."""

import json
import warnings

import pytest
import torch
from checkpoints_made import make
from safetensors.torch import load_file, save_file

import reprkit as rk
from reprkit.checkpoints.reader import read
from reprkit.checkpoints.save_load import NonFiniteWeightsWarning, _check_types
from reprkit.errors import CheckpointError


@pytest.fixture(scope="module")
def digits():
    return rk.dataset("digits").split()[0]


@pytest.fixture
def folder(digits, tmp_path):
    return make(digits, "vq(codes=8, dim=2)").save(tmp_path / "model")


def edit_header(folder, change):
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


@pytest.mark.parametrize("after", ["I32", "U32"])
def test_changed_type_in_the_header_is_refused(folder, after):
    stored = rk.load(folder).state_dict()
    changed = [name for name, value in stored.items() if value.dtype == torch.float32 and value.numel()]
    for name in (changed[0], changed[-1]):
        good = (folder / "model.safetensors").read_bytes()
        edit_header(folder, lambda header, name=name: header[name].update(dtype=after))
        with pytest.raises(
            CheckpointError, match=rf"is damaged: it holds tensors of another type: {name} \(file "
        ):
            rk.load(folder)
        (folder / "model.safetensors").write_bytes(good)
    rk.load(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.uint64, torch.int32, torch.bool])
def test_integers_stay_integers_of_their_size(folder, dtype):
    with pytest.raises(CheckpointError, match=r"another type: counts \(file .*, expected int64\)"):
        _check_types({"counts": torch.zeros(2, dtype=dtype)}, {"counts": torch.zeros(2).long()}, read(folder))


def test_changed_type_of_one_half_precision_tensor_is_refused(digits, tmp_path):
    folder = make(digits, "continuous(dim=2)").half().save(tmp_path / "model")
    rk.load(folder)
    name = "adapters.code.weight"
    edit_header(folder, lambda header: header[name].update(dtype="BF16"))
    with pytest.raises(
        CheckpointError, match=rf"another type: {name} \(file bfloat16, expected float16\)|expected bfloat16"
    ):
        rk.load(folder)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(folder, bad):
    path = folder / "model.safetensors"
    tensors = load_file(str(path))
    name = "factors.code.adapter.weight"
    tensors[name][0, :2] = bad
    tensors["factors.code.adapter.bias"][0] = bad
    save_file(tensors, str(path), metadata={"format": "pt"})
    with pytest.warns(NonFiniteWeightsWarning) as warned:
        rk.load(folder)
    (text,) = [str(each.message) for each in warned]
    assert f"2 of {len(tensors)} tensors in {path} are not finite: " in text
    assert f"{name} (2 of {tensors[name].numel()} values)" in text
    assert f"factors.code.adapter.bias (1 of {tensors['factors.code.adapter.bias'].numel()} values)" in text


def test_other_precisions_load_without_a_warning(digits, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number, convert in enumerate((lambda m: m, lambda m: m.double(), lambda m: m.bfloat16())):
            rk.load(convert(make(digits, "gaussian(dim=2)")).save(tmp_path / str(number)))
