"""Data sets of torch and of ``datasets``, lists and iterables are data sets of reprkit."""

import numpy as np
import pytest
import torch
from PIL import Image

import reprkit as rk
from reprkit.errors import DataError

RNG = np.random.default_rng(0)


class Pairs(torch.utils.data.Dataset):
    """Pictures (c h w) in [0, 1] and a class, as torchvision's data sets with ToTensor return them."""

    classes = ("cat", "dog", "eel")

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.full((3, 6, 5), index / 20), index % 2


class Counting(torch.utils.data.IterableDataset):
    def __iter__(self):
        return ({"x": torch.full((2,), float(index))} for index in range(8))


def test_a_torch_data_set_keeps_its_order_and_its_classes():
    data = rk.dataset(Pairs(), channels="first")
    field = data.signature["x"]
    assert (field.kind, field.shape, field.range) == ("image", (6, 5, 3), (0.0, 1.0))
    assert data.signature["label"].vocab == 3
    assert data.facts["classes"] == ["cat", "dog", "eel"]
    assert data[7]["x"].shape == (6, 5, 3)
    assert float(data[7]["x"][0, 0, 0]) == pytest.approx(0.35)
    assert data[7]["label"].dtype == torch.int64
    assert int(data[7]["label"]) == 1
    assert sum(map(len, data.split())) == 20
    with pytest.raises(DataError, match=r"looks like channels first \(n c h w\).*\n.*channels='first'"):
        rk.dataset(Pairs())


def test_pictures_numbers_and_symbols_of_other_libraries():
    pictures = [(Image.fromarray(RNG.integers(0, 255, (6, 5), np.uint8)), n % 3) for n in range(9)]
    data = rk.dataset(pictures)
    assert data.signature["x"].shape == (6, 5, 1)
    assert data.signature["label"].vocab == 3
    np.testing.assert_allclose(data[2]["x"][..., 0] * 255, np.asarray(pictures[2][0]), rtol=1e-6)
    texts = rk.dataset({"x": row} for row in ([1, 2, 3], [4, 5], [0]))
    assert texts.signature["x"].shape == (None,)
    assert texts.signature["x"].vocab == 6
    assert texts.lengths()["x"].tolist() == [3, 2, 1]
    assert texts.batch([0, 1])["x_mask"].tolist() == [[True, True, True], [True, True, False]]
    named = rk.dataset([([0.1, 0.2], [1.0]), ([0.3, 0.4], [2.0])], fields=["x", "target"])
    assert named.signature["target"].kind == "vector"
    assert named[1]["target"].tolist() == [2.0]
    assert isinstance(rk.dataset([(1.0, 2.0), (3.0, 4.0)]), rk.data.Arrays)  # the rows of an array
    assert len(rk.dataset(Counting())) == 8


@pytest.mark.slow
def test_fit_evaluate_and_embed_take_them():
    model = rk.build(
        data=rk.dataset(Pairs(), channels="first"),
        encoder="mlp(width=8)",
        latent="continuous(dim=2)",
        decoder="mlp(width=8)",
    )
    first = rk.dataset(Pairs(), channels="first")
    rk.fit(model, first, steps=2, batch=4, progress=False)
    assert rk.embed(model, first, progress=False).shape == (20, 2)
    table = rk.build(
        data=Counting(), encoder="mlp(width=8)", latent="continuous(dim=2)", decoder="mlp(width=8)"
    )
    rk.fit(table, Counting(), steps=2, batch=4, progress=False)
    assert rk.embed(table, Counting(), progress=False).shape == (8, 2)
    assert rk.evaluate(table, Counting(), "reconstruction", progress=False)["reconstruction"]["error"] >= 0


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ([{"x": [1.0]}, {"y": [1.0]}], "example 1 of list has the fields y, and example 0 x"),
        (
            [{"x": np.zeros((2, 3))}, {"x": np.zeros((2, 4))}],
            r"shape \(2, 4\) in example 1 and \(2, 3\) in example 0",
        ),
        ([{"x": "text"}], "is a str, not numbers or a picture"),
        ([([1.0], 0, 1)], "tuple of 3 values; its fields are x, label\n.*fields="),
        (iter(()), "is empty"),
        (torch.utils.data.DataLoader(Pairs()), "rk.dataset\\(loader.dataset\\)"),
        (
            (np.zeros((3, 2)), np.zeros(3, int)),
            r"no names of fields: give a dict, \{'x': x, 'label': labels\}",
        ),
        (3, "a data set is .* a data set of torch"),
    ],
)
def test_what_is_no_data_set(source, text):
    with pytest.raises(DataError, match=text):
        rk.dataset(source)


def test_an_endless_iterable_is_refused(monkeypatch):
    monkeypatch.setattr("reprkit.data.formats.examples.MEMORY", 1000)
    with pytest.raises(DataError, match="the first 31 examples of generator fill 1 GiB .*\n.*rk.data.Stream"):
        rk.dataset({"x": np.full(4, n, np.float64)} for n in iter(int, 1))


@pytest.mark.slow
def test_data_sets_of_the_library_datasets():
    datasets = pytest.importorskip("datasets")
    rows = {"x": RNG.normal(size=(12, 3)).tolist(), "label": ["a", "b"] * 6}
    table = datasets.Dataset.from_dict(rows)
    data = rk.dataset(table)
    assert len(data) == 12
    assert data.facts["classes"] == ["a", "b"]
    np.testing.assert_allclose(data[5]["x"], rows["x"][5], rtol=1e-6)
    parts = rk.dataset(datasets.DatasetDict(train=table, test=table.select(range(4))))
    assert [len(part) for part in parts.split()] == [12, 4]
    stream = rk.dataset(table.class_encode_column("label").to_iterable_dataset())
    assert len(stream.take(20)) == 12


def test_objects_that_are_no_data_set_of_the_hub():
    for part in (rk.data.Hub, rk.data.HubStream):
        with pytest.raises(DataError, match="an object of datasets, not int"):
            part(3)
