import numpy as np
import pytest
import torch

from reprkit.data import Field, Signature, collate
from reprkit.data.collation import to_index
from reprkit.errors import DataError

SIGNATURE = Signature(
    {
        "x": Field(kind="sequence", shape=(None, 2)),
        "image": Field(kind="image", shape=(2, 2, 1)),
        "label": Field(kind="label", shape=(), vocab=3),
    }
)


def item(length, label=0):
    return {"x": torch.ones(length, 2), "image": torch.zeros(2, 2, 1), "label": label}


def test_fixed_shapes_are_stacked_and_varying_lengths_padded():
    batch = collate([item(3), item(1, 2), item(2)], SIGNATURE)
    assert list(batch) == ["x", "x_mask", "image", "label"]
    assert batch["x"].shape == (3, 3, 2)
    assert batch["x_mask"].tolist() == [[True, True, True], [True, False, False], [True, True, False]]
    assert torch.equal(batch["x"].sum((1, 2)), torch.tensor([6.0, 2.0, 4.0]))
    assert batch["label"].tolist() == [0, 2, 0]
    assert batch["label"].dtype == torch.int64


def test_masks_of_the_examples_are_preserved():
    items = [
        {**item(3), "x_mask": torch.tensor([True, False, True])},
        {**item(1), "x_mask": torch.tensor([True])},
    ]
    assert collate(items, SIGNATURE)["x_mask"].tolist() == [[True, False, True], [True, False, False]]


def test_numpy_values_and_additional_fields_are_collated():
    items = [{**item(1), "weight": np.float32(index), "place": np.array([index, 1])} for index in range(2)]
    batch = collate(items, SIGNATURE)
    assert batch["weight"].tolist() == [0, 1]
    assert batch["place"].tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ([], "at least one example"),
        ([item(1), {"x": torch.ones(1, 2)}], "example 1 of the batch has no field 'image'"),
        (
            [item(1), {**item(1), "image": torch.zeros(3, 2, 1)}],
            r"'image' has shape \(3, 2, 1\) in example 1",
        ),
        ([item(1), {**item(1), "x": torch.ones(1, 3)}], r"'x' has shape \(1, 3\) in example 1"),
        ([item(1), item(0)], "at least 1"),
    ],
)
def test_shapes_that_do_not_stack_raise(items, says):
    with pytest.raises(DataError, match=says):
        collate(items, SIGNATURE)


def test_indices_of_any_type():
    for indices in ([2, 0], (2, 0), np.array([2, 0]), torch.tensor([2, 0], dtype=torch.int32), iter([2, 0])):
        assert to_index(indices).tolist() == [2, 0]
        assert to_index([2, 0]).dtype == torch.int64
    assert to_index(range(3)).tolist() == [0, 1, 2]
