import numpy as np
import pytest
import torch

import reprkit.data
from reprkit.data import Arrays, Dataset, Digits, Field, Signature, dataset
from reprkit.errors import DataError, PartArgumentError, UnknownPartError
from reprkit.plugins import Registry


def test_references_files_arrays_and_instances(tmp_path):
    digits = dataset("digits")
    assert isinstance(digits, Digits)
    assert digits.reference == "reprkit/digits"
    assert digits.split()[0].describe()["reference"] == "reprkit/digits"
    assert dataset(digits) is digits
    part = digits.split()[1]
    assert dataset(part) is part
    np.savez(tmp_path / "set.npz", x=np.ones((3, 2)), label=[0, 1, 2])
    path = str(tmp_path / "set.npz")
    made = dataset(f"arrays(path={path!r}, kinds={{'x': 'vector'}})")
    assert made.signature["label"].vocab == 3
    assert dataset(made.reference).signature == made.signature
    assert dataset(path).signature == dataset(tmp_path / "set.npz").signature == made.signature
    for source in (np.ones((3, 2)), torch.ones(3, 2), {"x": np.ones((3, 2))}, [[1.0, 2.0], [3.0, 4.0]]):
        assert isinstance(dataset(source), Arrays)


def test_a_reference_s_lists_are_json_s(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((3, 2)))
    path = str(tmp_path / "x.npy")
    assert dataset(f"arrays(path={path!r}, ranges={{'x': [0, 1]}})").signature["x"].range == (0.0, 1.0)


def test_mistakes_are_named():
    with pytest.raises(UnknownPartError, match="Did you mean 'digits'"):
        dataset("digit")
    with pytest.raises(PartArgumentError, match="no argument 'files'"):
        dataset("arrays(files='x.npz')")
    with pytest.raises(PartArgumentError, match="needs path"):
        dataset("arrays")
    with pytest.raises(DataError, match=r"not int\n.*subclass rk.Dataset"):
        dataset(3)
    with pytest.raises(DataError, match="no file"):
        dataset("nowhere/at-all.npz")


class Bare(Dataset):
    def __len__(self):
        return 2


class Empty(Bare):
    signature = Signature({"x": Field(kind="vector", shape=(2,))})

    def __len__(self):
        return 0


def test_sets_that_break_the_contract_are_refused():
    with pytest.raises(DataError, match="Bare has no signature"):
        dataset(Bare())
    with pytest.raises(DataError, match="Empty is empty"):
        dataset(Empty())
    with pytest.raises(NotImplementedError, match="Bare must define __getitem__"):
        Bare()[0]


def test_no_module_takes_the_name_of_something_public():
    import importlib
    import pkgutil

    for info in pkgutil.iter_modules(reprkit.data.__path__):
        importlib.import_module(f"reprkit.data.{info.name}")
        assert info.name not in reprkit.data.__all__
    for name in reprkit.data.__all__:
        assert callable(getattr(reprkit.data, name))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        reprkit.data.nothing  # noqa: B018


def test_another_registry_can_be_asked():
    with pytest.raises(UnknownPartError):
        dataset("digits", registry=Registry(builtin=False, installed=False))
