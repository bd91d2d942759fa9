"""Texts and files through a model's own preprocessing: the data set that declares the form reads them."""

import pickle

import pytest
import torch

import reprkit as rk
from reprkit.data import Lines
from reprkit.data.compatibility import require_same_fields
from reprkit.data.raw_files import form_reader, raw_files
from reprkit.data.raw_input import as_batch
from reprkit.errors import DataError, PluginError
from reprkit.registry.hookspecs import hookimpl
from reprkit.registry.registry import Registry
from reprkit.testing import DatasetConformance
from reprkit.testing.kit import failed_checks

WORDS = "abc\ncab\nbbca\nacb\n"


@pytest.fixture
def file(tmp_path):
    (tmp_path / "words.txt").write_text(WORDS)
    return tmp_path / "words.txt"


@pytest.fixture
def other(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "new.txt").write_text("b\n\nac\n")
    return tmp_path / "other" / "new.txt"


@pytest.mark.parametrize("units", ["bytes", "characters"])
def test_lines_read_texts_and_files_by_the_form(file, other, units):
    data = Lines(file, units)
    case = DatasetConformance()
    case.part = f"lines(path={str(file)!r}, units={units!r}, length=3)"
    assert failed_checks(case) == {}
    expected = [ord(c) if units == "bytes" else "abc".index(c) for c in "cab"]
    assert as_batch("cab", data.signature)["x"].tolist() == [expected]
    batch = as_batch(["cab", str(other), "b"], data.signature)
    assert batch["x_mask"].sum(1).tolist() == [3, 1, 2, 1]
    assert batch["x"][0].tolist() == expected
    assert torch.equal(as_batch(other, data.signature)["x_mask"], torch.tensor([[True, False], [True, True]]))


def test_what_the_alphabet_lacks_and_missing_files_are_refused(file, tmp_path):
    signature = Lines(file, "characters").signature
    with pytest.raises(DataError, match=r"'abx': the model's alphabet of 3 characters does not have 'x'"):
        as_batch(["a", "abx"], signature)
    with pytest.raises(DataError, match="no file 'missing.txt'"):
        as_batch("missing.txt", signature)
    with pytest.raises(DataError, match="an empty text"):
        as_batch([""], signature)
    with pytest.raises(DataError, match="is a folder"):
        as_batch(tmp_path, signature)
    assert len(as_batch("two words.txt", Lines(file).signature)["x"][0]) == 13  # a text: no such file


def test_another_alphabet_is_refused_as_a_data_set(file, other):
    learned = Lines(file, "characters").signature
    same, less = Lines(file, "characters", length=2), Lines(other, "characters")
    require_same_fields(same, learned)
    other.write_text("xyz\n")
    with pytest.raises(DataError, match="another vocabulary"):
        require_same_fields(Lines(other, "characters"), learned)
    assert less.signature["x"].form == learned["x"].form


def test_a_model_reads_texts_files_and_folders(file, other):
    data = Lines(file, "characters")
    model = rk.build(
        data=data,
        encoder="transformer(width=8, depth=1, heads=2)",
        latent="continuous(dim=2)",
        decoder="transformer(width=8, depth=1, heads=2)",
    )
    by_hand = model.represent(data.batch([0, 1]), to="numpy")
    assert model.represent(["abc", "cab"], to="numpy") == pytest.approx(by_hand, abs=1e-6)
    vectors = rk.embed(model, other.parent)
    assert vectors == pytest.approx(rk.embed(model, ["b", "ac"]), abs=1e-6)
    found = raw_files([other, file], model.signature)
    assert len(found) == 6
    assert [path.stem for path in found.files] == ["new"] * 2 + ["words"] * 4
    assert torch.equal(pickle.loads(pickle.dumps(found))[2]["x"], data[0]["x"])
    assert raw_files([file.with_suffix(".csv")], model.signature) is None


class Readers:
    """A plugin whose data sets read the form "words"."""

    def __init__(self, *names):
        self.names = names

    @hookimpl
    def reprkit_datasets(self):
        for name in self.names:
            yield rk.Spec(name, "reprkit.data.formats.lines:Lines", forms=("words",))
        yield rk.Spec("unusable", "a:B", requires=("no_such_library",), forms=("words",))


def test_a_plugin_declares_a_form():
    registry = Registry(installed=False)
    field = rk.Field(kind="tokens", shape=(None,), vocab=3, form="words(x=1)")
    assert form_reader(field, registry) is None
    registry.register(Readers("one"), name="acme")
    assert form_reader(field, registry) is Lines
    registry.register(Readers("one", "two"), name="acme")
    with pytest.raises(DataError, match="several data sets read the form 'words': acme/one, acme/two"):
        form_reader(field, registry)
    with pytest.raises(PluginError, match="forms is a tuple"):
        rk.Spec("one", "a:B", forms="words")


def test_a_form_that_no_plugin_reads_says_so():
    field = rk.Field(kind="sequence", shape=(None, 2), form="no-such-form(a=1)")
    with pytest.raises(DataError, match="no installed plugin reads files of the form no-such-form"):
        as_batch("a.wav", rk.Signature({"x": field}))
