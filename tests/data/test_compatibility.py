"""A data set is refused where its values mean something else than the model learned; classes are matched by name."""

import numpy as np
import pandas as pd
import pytest
import torch

import reprkit as rk
from reprkit.data import Field, Tensors, check_batch
from reprkit.data.compatibility import match_classes, match_model
from reprkit.data.formats.arrays import Arrays
from reprkit.data.formats.table import Table
from reprkit.errors import DataError

RNG = np.random.default_rng(0)


def images(span):
    return Arrays(
        RNG.random((20, 4, 4, 1), dtype=np.float32) * span[1], kinds={"x": "image"}, ranges={"x": span}
    )


@pytest.fixture(scope="module")
def model():
    return rk.build(
        data=images((0, 1)), encoder="mlp(width=8)", latent="continuous(dim=2)", decoder="mlp(width=8)"
    )


def test_images_of_another_range_are_not_evaluated(model):
    rk.evaluate(model, images((0, 1)), "reconstruction")
    with pytest.raises(DataError, match=r"range is \(0.0, 255.0\), the model's is \(0.0, 1.0\)"):
        rk.evaluate(model, images((0, 255)), "reconstruction")


def test_values_outside_of_the_range_are_refused_as_in_training(model):
    batch = images((0, 1)).batch(range(4))
    batch["x"][2, 1, 3, 0] = 1.3
    with pytest.raises(DataError) as training:
        check_batch(batch, model.signature)
    assert (
        "'x' holds 1.3 at [2, 1, 3, 0] of the batch (example 2); its signature says range (0.0, 1.0)"
        in str(training.value)
    )
    array = batch["x"].numpy()
    for use in (
        model.encode,
        model.represent,
        model.reconstruct,
        model.score,
        lambda batch: model.jacobian(batch, "code"),
        lambda batch: model.encode(array, to="numpy"),
        lambda batch: model.represent(list(array), to="torch"),
        lambda batch: rk.embed(model, array, batch=2),  # the index counts over all examples
    ):
        with pytest.raises(DataError) as refused:
            use(batch)
        assert str(refused.value) == str(training.value)
    rounded = {"x": batch["x"].clamp(0, 1) + 5e-5}  # the tolerance of training
    assert model.represent(rounded).shape == (4, 2)


def test_values_outside_of_the_range_are_not_evaluated(model):
    data = Tensors({"x": images((0, 1)).batch(range(8))["x"] * 1.5}, model.signature, check=False)
    for evaluator in ("reconstruction", "jacobian"):
        with pytest.raises(DataError, match=r"its signature says range \(0.0, 1.0\)"):
            rk.evaluate(model, data, evaluator)


def test_corrupted_and_decoded_values_may_leave_the_range(model):
    batch = images((0, 1)).batch(range(4))
    noisy = {"x": batch["x"] * 1.5 - 0.25}
    assert model.represent(noisy, in_range=False).shape == (4, 2)
    assert model.reconstruct(noisy, in_range=False).shape == (4, 4, 4, 1)
    with torch.no_grad():
        expected = model.score(batch, model.encode(noisy, in_range=False)).nats
        assert torch.equal(model.score(batch, view=noisy).nats, expected)
        assert model.score(noisy, in_range=False).nats.shape == (4, 1)
    for use in (model.encode, model.represent):
        with pytest.raises(DataError, match=r"another scale, range \(0.0, 1.0\)\n.*divide by 255"):
            use({"x": batch["x"] * 255}, in_range=False)
    with pytest.raises(
        DataError, match=r"its signature says range"
    ):  # the target, where encode sees other values
        model.score(noisy, view=batch)


def test_values_that_the_model_does_not_read_are_not_checked():
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "label": ["a", "b", "c", "c"]})
    net = {"data": Table(frame), "objective": "classify"}
    model = rk.build(encoder="mlp(width=8)", latent="continuous(dim=2)", **net)
    batch = {"x": torch.zeros(2, 1), "label": torch.tensor([0, 7])}
    assert model.represent(batch).shape == (2, 2)
    factors = {"code": rk.factor("mlp(width=8)"), "class": rk.factor("mlp(width=8)", input="label")}
    reads = rk.build(factors=factors, **net)
    with pytest.raises(DataError, match=r"'label' holds 7 at \[1\].*0 to 2 \(vocab 3\)"):
        reads.represent(batch)
    assert reads.represent(batch, "code").shape[0] == 2


def test_unknown_symbols_are_not_encoded():
    data = Arrays(RNG.integers(0, 5, (20, 6)), kinds={"x": "tokens"}, vocabs={"x": 5})
    model = rk.build(data=data, encoder="gru(width=8)", latent="continuous(dim=2)", decoder="gru(width=8)")
    model.encode({"x": torch.full((1, 6), 5)}, in_range=False)  # the mask symbol
    for symbol in (-1, 6, 2**40):
        with pytest.raises(DataError, match="vocab 5"):
            model.encode({"x": torch.full((1, 6), symbol)}, in_range=False)
    for symbol in (-1, 5):
        with pytest.raises(DataError, match=r"0 to 4 \(vocab 5\)"):
            model.encode({"x": torch.full((1, 6), symbol)})


def test_tables_with_other_columns_are_not_evaluated():
    frame = pd.DataFrame({"a": RNG.normal(size=20), "b": ["u", "v"] * 10})
    model = rk.build(
        data=Table(frame), encoder="mlp(width=8)", latent="continuous(dim=2)", decoder="mlp(width=8)"
    )
    with pytest.raises(DataError, match=r"columns are a, c; the model's are a, b\n.*like=train"):
        rk.evaluate(model, Table(frame.rename(columns={"b": "c"})), "reconstruction")
    with pytest.raises(DataError, match=r"column 'b' is a category \['u', 'w'\].*\n.*like=train"):
        rk.evaluate(model, Table(frame.replace({"b": {"v": "w"}})), "reconstruction")


def test_classes_are_matched_by_name():
    train = Table(pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "label": ["a", "b", "c", "c"]}))
    test = Table(pd.DataFrame({"a": [1.0, 2.0], "label": ["c", "b"]}))
    assert test.batch([0, 1])["label"].tolist() == [1, 0]
    matched = match_classes(test, train)
    assert matched.batch([0, 1])["label"].tolist() == [2, 1]
    assert [int(matched[index]["label"]) for index in (0, 1)] == [2, 1]
    assert matched.signature["label"].vocab == 3
    assert matched.facts["classes"] == ["a", "b", "c"]
    with pytest.raises(DataError, match="has the class 'd', and table does not: 'a', 'b', 'c'"):
        match_classes(Table(pd.DataFrame({"a": [1.0, 2.0], "label": ["c", "d"]})), train)


def test_a_probe_uses_the_names_of_the_classes():
    """Two well separated classes; the test file lacks the first class, so its numbers are shifted."""
    frame = pd.DataFrame(
        {"a": np.repeat([0.0, 10.0, 20.0], 30) + RNG.normal(size=90), "label": np.repeat(["p", "q", "r"], 30)}
    )
    train, test = Table(frame), Table(frame[30:])
    assert test.batch([0])["label"].item() == 0
    found = rk.evaluate("raw", test, "knn", fit_on=train)
    assert found["knn"]["accuracy"] > 0.95


def test_names_of_classes_travel_with_the_model(tmp_path):
    train = Table(pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "label": ["p", "q", "r", "r"]}))
    model = rk.build(
        data=train,
        encoder="mlp(width=8)",
        latent="continuous(dim=2)",
        objective="reconstruction",
        decoder="mlp(width=8)",
    )
    loaded = rk.load(model.save(tmp_path / "model"))
    assert loaded.signature["label"].classes == ("p", "q", "r")
    assert "label: 0 p, 1 q, 2 r" in (tmp_path / "model" / "README.md").read_text()


def test_labels_are_numbered_as_the_model_learned_them():
    train = Table(pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "label": ["p", "q", "r", "r"]}))
    new = Table(pd.DataFrame({"a": [1.0, 2.0, 3.0], "label": ["r", "q", "r"]}))
    other = Table(pd.DataFrame({"a": [1.0, 2.0], "label": ["x", "y"]}))
    matched = match_model(new, train.signature, ())
    assert matched.batch(range(3))["label"].tolist() == [2, 1, 2]
    assert match_model(other, train.signature, ()) is other
    with pytest.raises(DataError, match="has the classes 'x', 'y', and the model does not: 'p', 'q', 'r'"):
        match_model(other, train.signature, {"label"})
    with pytest.raises(DataError, match="classes are a different name for each of the 3 classes"):
        Field(kind="label", shape=(), vocab=3, classes=("a", "b"))


def test_maps_and_confusions_name_the_classes():
    frame = pd.DataFrame({"a": RNG.normal(size=40), "b": RNG.normal(size=40), "label": ["no", "yes"] * 20})
    data = Table(frame)
    found = rk.evaluate("raw", data, "linear-probe", "projection(tsne=False)", fit_on=data)
    assert found.figures["linear-probe"]["confusion"].ticks == ["no", "yes"]
    assert dict(found.figures["projection"]["pca"].names) == {0: "no", 1: "yes"}
