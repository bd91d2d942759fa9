"""Splits by identity: a hash decides each example's part, whatever other examples there are."""

import functools
import operator

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import reprkit as rk
from reprkit.data.formats.arrays import Arrays
from reprkit.data.identity import split_by_identity
from reprkit.errors import DataError

NAMES = [f"{number:03d}" for number in range(200)]


def parts_of(names, **options):
    settings = {"seed": 0, "valid": True, "test_share": 0.2, "valid_share": 0.1, **options}
    found = split_by_identity(names, **settings)
    return {part: [names[index] for index in rows.tolist()] for part, rows in found.items()}


def test_added_examples_change_no_others_part():
    before, after = parts_of(NAMES), parts_of([f"new {n}" for n in range(300)] + NAMES[::-1])
    for part, names in before.items():
        assert set(names) == {name for name in after[part] if name in NAMES}
    assert sorted(functools.reduce(operator.iadd, before.values(), [])) == NAMES
    assert 25 <= len(before["test"]) <= 55
    assert 8 <= len(before["valid"]) <= 35
    assert set(parts_of(NAMES, valid=False)["test"]) == set(before["test"])
    assert set(parts_of(NAMES, seed=1)["test"]) != set(before["test"])


def test_equal_identities_stay_together_and_no_part_is_empty():
    for seed in range(20):
        found = parts_of(["a", "b", "c", "a", "b"], seed=seed)
        assert sorted(functools.reduce(operator.iadd, map(list, map(set, found.values())), [])) == [
            "a",
            "b",
            "c",
        ]
    with pytest.raises(
        DataError, match=r"2 groups that stay together \(of 3 examples\) are too few for train, valid, test"
    ):
        parts_of(["a", "b", "a"])


class Named(Arrays):
    def identities(self):
        return NAMES


def test_a_part_is_divided_by_another_hash():
    data = Named({"x": np.arange(200, dtype=np.float32)[:, None]})
    train, test = data.split()
    again = {part.part: part for part in train.split(valid=True)}
    sizes = [len(again[name]) / len(train) for name in ("train", "valid", "test")]
    assert sum(sizes) == pytest.approx(1)
    assert 0.1 < sizes[2] < 0.3
    assert 0.03 < sizes[1] < 0.2
    assert len(train.split()[0].split()[1]) > 0
    assert set(test.identities()) == {NAMES[index] for index in test.indices.tolist()}
    assert test.identities()[3] == NAMES[int(test[3]["x"])]
    with pytest.raises(DataError, match="test_share and valid_share must lie between"):
        data.split(test_share=1.5)


def test_pictures_keep_their_part_when_files_are_added(tmp_path):
    rng = np.random.default_rng(0)
    for name in NAMES[:40]:
        Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8)).save(tmp_path / f"{name}.png")
    data = rk.dataset(tmp_path, size=4)
    before = [{data.files[index] for index in part.indices.tolist()} for part in data.split()]
    for name in NAMES[40:60]:
        Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8)).save(tmp_path / f"0{name}.png")
    for size in (4, 8):
        more = rk.dataset(tmp_path, size=size)
        after = [{more.files[index] for index in part.indices.tolist()} for part in more.split()]
        assert all(one <= two for one, two in zip(before, after, strict=True))


def test_windows_of_a_recording_stay_in_one_part(tmp_path):
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * np.sin(np.arange(4000) / 5), 8000)
    data = rk.dataset(f"audio(root={str(tmp_path)!r}, rate=8000, seconds=0.1)")
    train, test = (set(part.identities()) for part in data.split())
    assert not train & test
    assert len(data) == 30
    assert train | test == {f"{number}.wav" for number in range(6)}


def test_examples_without_identity_keep_their_split():
    data = Arrays({"x": torch.arange(20.0)[:, None]})
    assert data.split(seed=3)[1].indices.tolist() == [3, 10, 0, 14]


@pytest.mark.parametrize(
    "values", [np.arange(60) // 6, torch.arange(60) // 6, [f"p{n // 6}" for n in range(60)]]
)
def test_groups_of_arrays_stay_together(values):
    arrays = {"x": np.arange(60, dtype=np.float32)[:, None], "patient": values}
    data = rk.dataset(arrays, group="patient")
    patients = [{int(example["x"]) // 6 for example in part} for part in data.split(valid=True)]
    assert list(data.signature) == ["x"]
    assert sum(map(len, patients)) == 10
    with pytest.raises(DataError, match="no array 'patent' for group=.*'patient'"):
        rk.dataset(arrays, group="patent")
    with pytest.raises(DataError, match="group='patient' has 60 values, and there are 59 examples"):
        rk.dataset({**arrays, "x": arrays["x"][1:]}, group="patient")


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_few_examples_fill_every_part_and_valid_does_not_change_test(count):
    for seed in range(60):
        names = [f"{seed}-{number}" for number in range(count)]
        two = split_by_identity(names, seed, False, 0.2, 0.1)
        three = split_by_identity(names, seed, True, 0.2, 0.1)
        assert all(len(part) for part in (*two.values(), *three.values()))
        assert sorted(two["test"].tolist()) == sorted(three["test"].tolist())
        assert sorted(index for part in three.values() for index in part.tolist()) == list(range(count))
