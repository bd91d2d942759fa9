"""A model that goes on training on other data: labels are numbered as the model numbers the classes of the same names."""

import pandas as pd
import pytest
import torch

import reprkit as rk
from reprkit.data import Field, Signature, Stream, Tensors
from reprkit.data.formats.table import Table
from reprkit.errors import DataError
from reprkit.training.label_match import match_labels

NET = {"encoder": "mlp(widths=(8,))", "latent": "continuous(dim=2)"}
PLACES = {"ant": 0.0, "bee": 1.0, "cow": 2.0}


def table(*names):
    """Rows whose number is the place of their class."""
    return Table(pd.DataFrame({"a": [PLACES.get(name, 9.0) for name in names], "label": names}))


def numbers(data):
    """Place of the class -> number of the class, of a data set."""
    batch = data.batch(range(len(data)))
    return dict(zip(batch["x"].flatten().round().tolist(), batch["label"].tolist(), strict=True))


@pytest.fixture
def model():
    return rk.build(data=table("ant", "bee", "cow", "cow"), objective="classify", **NET)


def test_a_classifier_goes_on_with_its_own_classes(model):
    """Without the first class the file's own numbers are one lower."""
    for step in rk.loop(
        model, table(*["ant", "bee", "cow", "ant", "bee", "cow"]), steps=150, batch=6, lr=3e-2
    ):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
    assert losses.metrics["accuracy"] == 1
    other = table("cow", "bee", "cow", "bee")
    assert numbers(other) == {2: 1, 1: 0}
    for step in rk.loop(model, other, steps=1, batch=4):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        found = dict(zip(step.batch["x"].flatten().tolist(), step.batch["label"].tolist(), strict=True))
        assert found == {2: 2, 1: 1}
    assert losses.metrics["accuracy"] == 1


def test_an_unknown_class_is_refused_where_classes_have_weights(model):
    with pytest.raises(DataError, match="has the class 'dog', and the model does not: 'ant', 'bee', 'cow'"):
        rk.loop(model, table("cow", "dog"), steps=1, batch=2)
    with pytest.raises(DataError, match="has the class 'dog'"):
        next(iter(rk.loop(model, table("cow", "ant"), steps=1, batch=2, extra={"more": table("cow", "dog")})))
    sums = rk.build(
        data=table("ant", "bee"), decoder="mlp(widths=(8,))", objective="grouped + 0.1 * classify", **NET
    )
    assert sums.objective.labels == {"label": "classes"}
    with pytest.raises(DataError, match="has the class 'cow'"):
        rk.loop(sums, table("bee", "cow"), steps=1, batch=2)


def test_groups_and_labels_that_are_not_read_may_have_other_classes():
    for objective in ("grouped", "reconstruction"):
        model = rk.build(data=table("ant", "bee"), decoder="mlp(widths=(8,))", objective=objective, **NET)
        other = table("bee", "dog")
        assert match_labels(model, other) is other
        assert numbers(match_labels(model, table("bee", "bee"))) == {1: 1}  # known by name
        rk.fit(model, other, steps=1, batch=2, progress=False)


def test_a_label_that_a_factor_reads_is_matched():
    data = table("ant", "bee", "cow")
    model = rk.build(
        data=data, factors={"kind": rk.factor("mlp(widths=(8,))", input="label")}, decoder="mlp(widths=(8,))"
    )
    assert numbers(match_labels(model, table("cow", "bee"))) == {2: 2, 1: 1}
    with pytest.raises(DataError, match="has the class 'dog'"):
        match_labels(model, table("dog", "bee"))


def test_numbers_without_names_stay(model):
    signature = Signature(
        {"x": Field(kind="vector", shape=(1,)), "label": Field(kind="label", shape=(), vocab=2)}
    )
    data = Tensors({"x": torch.zeros(4, 1), "label": torch.arange(4) % 2}, signature)
    assert match_labels(model, data) is data


def test_further_data_sets_are_matched(model):
    loop = rk.loop(model, table("ant", "bee"), steps=1, batch=2, extra={"more": table("cow", "bee")})
    for step in loop:
        more = step.extra["more"]
        assert dict(zip(more["x"].flatten().tolist(), more["label"].tolist(), strict=True)) == {2: 2, 1: 1}
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()


def test_the_first_batch_of_other_data_is_checked():
    signature = Signature({"x": Field(kind="vector", shape=(1,), range=(0.0, 1.0))})
    model = rk.build(data=signature, decoder="mlp(widths=(8,))", **NET)
    for scale, refused in ((1, False), (3, True)):
        data = Tensors({"x": scale * torch.linspace(0, 1, 4)[:, None]}, signature, check=False)
        for step in rk.loop(model, data, steps=1, batch=4):
            if refused:
                with pytest.raises(DataError, match=r"its signature says range \(0.0, 1.0\)"):
                    step.model(step.batch)
                break
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()


class Records(Stream):
    """Records of two classes, in an order of their own."""

    def __init__(self):
        label = Field(kind="label", shape=(), vocab=2, classes=("cow", "bee"))
        self.signature = Signature({"x": Field(kind="vector", shape=(1,)), "label": label})

    def read(self):
        return iter([0, 1, 0, 1])

    def decode(self, record):
        return {"x": torch.tensor([2.0 - record]), "label": torch.tensor(record)}


def test_a_stream_is_matched(model):
    matched = match_labels(model, Records())
    assert [(float(each["x"]), int(each["label"])) for each in matched] == [(2, 2), (1, 1)] * 2
    assert matched.signature["label"].classes == ("ant", "bee", "cow")
    train, _ = matched.split()
    for step in rk.loop(model, train, steps=1, batch=2):
        assert (step.batch["label"] == step.batch["x"].flatten()).all()
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()


def test_labels_of_the_objectives():
    found = {
        name: rk.create("objective", name).labels
        for name in ("classify(label='kind')", "adversary", "grouped(label='who')", "reconstruction")
    }
    assert list(found.values()) == [{"kind": "classes"}, {"label": "classes"}, {"who": "groups"}, {}]
