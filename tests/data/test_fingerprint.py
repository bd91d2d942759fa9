"""The fingerprint of a data set: equal for equal values, another one for others, without random fields."""

import random

import numpy as np
import torch
from PIL import Image

import reprkit as rk
from reprkit.data import Field, Signature
from reprkit.data.fingerprint import fingerprint, is_same


class Drawn(rk.Dataset):
    """A clean field, and one that is drawn anew whenever it is read."""

    signature = Signature({name: Field(kind="vector", shape=(3,)) for name in "xy"})

    def __init__(self, offset=0.0):
        self.offset = offset

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {"x": torch.full((3,), index + self.offset), "y": torch.rand(3) + random.random()}


class Broken(Drawn):
    def __getitem__(self, index):
        raise rk.errors.DataError("no such file")


def test_values_in_memory_are_hashed():
    values = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    one, other = (fingerprint(rk.dataset({"x": each})) for each in (values, values.clone()))
    assert one == other
    assert is_same(one, other)
    changed = values.clone()
    changed[17, 1] += 1e-3
    assert not is_same(one, fingerprint(rk.dataset({"x": changed})))
    assert not is_same(one, fingerprint(rk.dataset({"x": values.flip(0)})))
    whole = rk.dataset({"x": values})
    parts = [fingerprint(part) for part in whole.split()]
    assert not is_same(*parts)
    assert is_same(parts[0], fingerprint(whole.split()[0]))


def test_fields_that_are_drawn_at_random_are_left_out():
    one = fingerprint(Drawn())
    assert list(one["means"]) == ["x"]
    assert is_same(one, fingerprint(Drawn()))
    assert not is_same(one, fingerprint(Drawn(offset=50.0)))


def test_pictures_may_be_decoded_a_little_differently(tmp_path):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 200, (20, 8, 8, 3), dtype=np.uint8)
    for name, change in {"one": 0, "near": 1, "far": 50}.items():
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pixels):
            Image.fromarray(picture + np.uint8(change)).save(tmp_path / name / f"{number:02}.png")
    one, near, far = (fingerprint(rk.dataset(tmp_path / name)) for name in ("one", "near", "far"))
    assert is_same(one, near)
    assert not is_same(one, far)


def test_data_that_cannot_be_read_has_none():
    assert fingerprint(Broken()) is None
    assert fingerprint(object()) is None
    assert is_same({"means": {"x": [1.0]}}, {"sha256": "a"}), "nothing can be told"
