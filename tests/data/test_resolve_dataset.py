import numpy as np
import pytest
import torch

import reprkit.data
from reprkit.data import Arrays, Dataset, Digits, Field, Signature, dataset
from reprkit.errors import DataError, PartArgumentError, PluginError, ReferenceSyntaxError, UnknownPartError
from reprkit.registry.hookspecs import Spec, hookimpl
from reprkit.registry.registry import Registry


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


def test_reference_lists_stay_json(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((3, 2)))
    path = str(tmp_path / "x.npy")
    assert dataset(f"arrays(path={path!r}, ranges={{'x': [0, 1]}})").signature["x"].range == (0.0, 1.0)


def test_invalid_sources_raise():
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


def wav(path):
    import soundfile

    soundfile.write(path, np.zeros(800, np.float32), 16000)


def png(path):
    from PIL import Image

    Image.new("RGB", (9, 7), "red").save(path)


WRITERS = {
    ".npy": lambda path: np.save(path, np.ones((4, 2))),
    ".txt": lambda path: path.write_text("a\nb\n"),
    ".jsonl": lambda path: path.write_text('{"text": "a"}\n{"text": "b"}\n'),
    ".png": png,
    ".wav": wav,
    ".csv": lambda path: path.write_text("1,2\n"),
}


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        WRITERS["." + name.rpartition(".")[2]](folder / name)
    return folder


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (("x.npy", "y.npy"), "arrays"),
        (("a/1.png", "b/2.png", "b/index.csv"), "images"),
        (("1.wav", "deep/er/2.wav"), "audio"),
        (("a.jsonl", "b/c.jsonl"), "json-lines"),
        (("a.txt", "b/c.txt", ".hidden/1.png"), "lines"),
        (("1.png", "deep/x.npy"), "images"),  # arrays lie side by side, a field each
    ],
)
def test_folder_is_read_by_its_content(tmp_path, names, part):
    folder = fill(tmp_path / "of mine", *names)
    alone = Registry(installed=False)
    for source in (folder, str(folder)):
        made = dataset(source, registry=alone)
        assert made.reference.startswith(f"reprkit/{part}(")
        again = dataset(made.reference)
        assert (again.describe(), type(again)) == (made.describe(), type(made))


@pytest.mark.parametrize(
    ("name", "part"), [("s.npy", "arrays"), ("s.jsonl", "json-lines"), ("s.txt", "lines")]
)
def test_file_is_read_by_its_suffix(tmp_path, monkeypatch, name, part):
    fill(tmp_path, name)
    assert dataset(tmp_path / name).reference == f"reprkit/{part}(path={str(tmp_path / name)!r})"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert dataset(name).reference == dataset(f" {name} ").reference == f"reprkit/{part}(path={name!r})"
    assert dataset(f"./{name}").reference == f"reprkit/{part}(path={name!r})"
    assert len(dataset(f"~/{name}")) == len(dataset(name))


def test_a_name_that_is_a_data_set_and_a_folder_is_refused_with_both_spellings(tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path, "digits/1.png", "pets/1.png"))
    with pytest.raises(DataError, match=r"'\./digits' for the folder, or 'reprkit/digits' for the data set"):
        dataset("digits")
    assert isinstance(dataset("reprkit/digits"), Digits)
    assert len(dataset("./digits")) == len(dataset("pets")) == 1
    (tmp_path / "arrays(path='x.npy')").mkdir()
    with pytest.raises(DataError, match=r"no file 'x\.npy'"):
        dataset("arrays(path='x.npy')")


def test_error_lists_the_content_of_a_folder(tmp_path):
    fill(tmp_path / "both", "1.png", "2.png", "notes.txt", "x.csv")
    both = str(tmp_path / "both")
    with pytest.raises(
        DataError, match=r"holds 2 \.png, 1 \.txt, 1 \.csv: several data sets could read it"
    ) as caught:
        dataset(both)
    calls = str(caught.value).partition("choose: ")[2].split(" or ")
    assert calls == [f"rk.dataset(\"images(root='{both}')\")", f"rk.dataset(\"lines(path='{both}')\")"]
    assert [len(eval(call, {"rk": reprkit})) for call in calls] == [2, 2]
    fill(tmp_path / "other", "x.csv", "readme/y.csv")
    with pytest.raises(
        DataError, match=r"holds 2 \.csv: no data set reads these\n  known:.*\.png.*images.*\.jsonl"
    ):
        dataset(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        dataset(tmp_path / "empty")
    fill(tmp_path / "below", "a/x.npy")
    with pytest.raises(DataError, match=r"holds 1 \.npy"):
        dataset(tmp_path / "below")


def test_unsupported_single_file_raises(tmp_path):
    fill(tmp_path, "1.png", "x.csv")
    (tmp_path / "x.csv").rename(tmp_path / "x.dat")
    with pytest.raises(DataError, match=r"single file.*\n  give the folder.*images\(root="):
        dataset(str(tmp_path / "1.png"))
    with pytest.raises(DataError, match=r"single file.*\n  known: .*\.jsonl"):
        dataset(tmp_path / "x.dat")
    for source in (tmp_path / "gone", str(tmp_path / "gone"), "./gone", "gone.jsonl", "gone.txt"):
        with pytest.raises(DataError, match=r"no file or folder '.*gone.*looked in"):
            dataset(source)
    for source in ("", "x" * 5000, "nothing/here"):
        with pytest.raises((UnknownPartError, ReferenceSyntaxError)):
            dataset(source)


class Bare(Dataset):
    def __len__(self):
        return 2


class Empty(Bare):
    signature = Signature({"x": Field(kind="vector", shape=(2,))})

    def __len__(self):
        return 0


def test_data_sets_that_break_the_contract_raise():
    with pytest.raises(DataError, match="Bare has no signature"):
        dataset(Bare())
    with pytest.raises(DataError, match="Empty is empty"):
        dataset(Empty())
    with pytest.raises(NotImplementedError, match="Bare must define __getitem__"):
        Bare()[0]


def test_no_module_has_a_public_name():
    import importlib
    import pkgutil

    for info in pkgutil.iter_modules(reprkit.data.__path__):
        importlib.import_module(f"reprkit.data.{info.name}")
        assert info.name not in reprkit.data.__all__
    for name in reprkit.data.__all__:
        assert callable(getattr(reprkit.data, name))
    with pytest.raises(AttributeError, match=r"No reprkit\.data attribute nothing"):
        reprkit.data.nothing  # noqa: B018


def test_another_registry_can_be_given():
    with pytest.raises(UnknownPartError):
        dataset("digits", registry=Registry(builtin=False, installed=False))


def test_options_go_to_the_data_set_that_reads_the_source(tmp_path):
    fill(tmp_path / "pets", "1.png")
    assert dataset(tmp_path / "pets", size=8).signature["x"].shape == (8, 8, 3)
    assert dataset(f"images(root={str(tmp_path / 'pets')!r})", size=8).signature["x"].shape == (8, 8, 3)
    assert dataset({"x": np.zeros((2, 5, 5))}, kinds={"x": "image"}).signature["x"].shape == (5, 5, 1)
    with pytest.raises(PartArgumentError, match="no argument 'sise'"):
        dataset(tmp_path / "pets", sise=8)
    with pytest.raises(DataError, match="returned unchanged"):
        dataset(dataset(np.zeros((2, 3))), kinds={})


def test_what_was_inferred_is_printed_once(tmp_path, capsys):
    fill(tmp_path / "pets", "1.png")
    dataset(tmp_path / "pets")
    assert capsys.readouterr().err == "x: image (h=64 w=64 c=3) in 0 to 1, 1 examples\n"
    dataset({"x": np.zeros((20, 3), dtype=np.float32), "label": np.arange(20) % 4})
    assert capsys.readouterr().err == "x: vector (d=3), 20 examples; label: 4 classes\n"
    dataset({"x": np.arange(20).reshape(10, 2)})
    assert capsys.readouterr().err == "x: tokens (t=2) of 20 symbols, 10 examples\n"
    (tmp_path / "few.csv").write_text("age,city\n31,Rome\n44,Oslo\n27,Rome\n")
    dataset(tmp_path / "few.csv", columns={"age": "drop"})
    assert capsys.readouterr().err == "x: table of 1 column (1 category), 3 rows\n"
    dataset("digits")
    dataset(np.zeros((2, 3)), kinds={"x": "vector"})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "values", [np.array([[31_000, 52_000], [199_613, 48_500]]), np.zeros((5, 784), dtype=np.uint8)]
)
def test_an_integer_matrix_that_may_hold_numbers_is_refused(values):
    with pytest.raises(DataError, match=r"symbols or numbers\?\n  symbols: kinds=\{'x': 'tokens'\}"):
        dataset({"x": values})
    assert dataset({"x": values}, kinds={"x": "tokens"}).signature["x"].kind == "tokens"


class Openers:
    """A plugin with data sets that open folders of sound."""

    def __init__(self, *names):
        self.names = names

    @hookimpl
    def reprkit_datasets(self):
        for name in self.names:
            yield Spec(name, "reprkit.data.formats.audio:Audio", opens="audio")
        yield Spec(
            "unusable", "reprkit.data.formats.audio:Audio", requires=("no_such_library",), opens="audio"
        )


def test_a_plugin_opens_folders_of_sound(tmp_path):
    folder = fill(tmp_path / "sounds", "1.wav")
    registry = Registry(installed=False)
    assert dataset(folder, registry=registry).reference.startswith("reprkit/audio(")
    registry.register(Openers("frames"), name="acme-sound")
    assert dataset(folder, registry=registry).reference == f"acme-sound/frames(root={str(folder)!r})"
    assert dataset(folder, registry=registry, rate=8000).facts["rate"] == 8000
    registry.register(Openers("frames", "spectra"), name="acme-sound")
    with pytest.raises(DataError, match=r"several data sets open a folder(?s:.*)acme-sound/spectra\(root="):
        dataset(folder, registry=registry)
    with pytest.raises(PluginError, match="opens must be the name of a data set"):
        Spec("frames", "a:B", opens="Sound files")


def test_a_tuple_of_arrays_is_asked_for_names():
    with pytest.raises(
        DataError, match=r"a tuple of arrays, \(4, 3\), \(4,\), has no names of fields: give a dict"
    ):
        dataset((np.zeros((4, 3)), np.zeros(4)))
