import pickle

import pytest
import torch

from reprkit.data import Field, Signature, Tensors
from reprkit.errors import DataError

SIGNATURE = Signature(
    {"x": Field(kind="vector", shape=(2,), range=(0.0, 1.0)), "label": Field(kind="label", shape=(), vocab=4)}
)
VALUES = {"x": torch.arange(8, dtype=torch.uint8).view(4, 2), "label": torch.arange(4, dtype=torch.int16)}


def test_narrow_types_are_widened_in_the_batch():
    data = Tensors(VALUES, SIGNATURE, divisors={"x": 7}, name="toy")
    batch = data.batch(torch.tensor([3, 0]))
    assert torch.equal(batch["x"], torch.tensor([[6.0, 7.0], [0.0, 1.0]]) / 7)
    assert batch["label"].dtype == torch.int64
    assert torch.equal(data[-1]["x"], data[3]["x"])
    assert data[1]["label"].shape == ()
    with pytest.raises(IndexError):
        data[4]
    with pytest.raises(IndexError):
        data.batch([4])
    assert len(list(data)) == 4
    assert "toy: 4 examples, x: vector (2,)" in repr(data)


def test_pickle_round_trip():
    again = pickle.loads(pickle.dumps(Tensors(VALUES, SIGNATURE, divisors={"x": 7})))
    assert again[2]["x"].tolist() == pytest.approx([4 / 7, 5 / 7])


def test_values_that_contradict_the_signature_raise():
    with pytest.raises(DataError, match=r"'x' holds 2 at \[1, 0\].*and 5 more"):
        Tensors(VALUES, SIGNATURE)
    assert len(Tensors(VALUES, SIGNATURE, check=False)) == 4
    with pytest.raises(DataError, match="no values for label"):
        Tensors({"x": VALUES["x"]}, SIGNATURE)
    with pytest.raises(DataError, match="x 4, label 3"):
        Tensors({"x": VALUES["x"], "label": VALUES["label"][:3]}, SIGNATURE)
    with pytest.raises(DataError, match="the data set is empty"):
        Tensors({name: value[:0] for name, value in VALUES.items()}, SIGNATURE)
    steps = Signature({"x": Field(kind="sequence", shape=(None, 1), range=(1.0, 2.0))})
    padded = {"x": torch.tensor([[[1.0], [0.0]]]), "x_mask": torch.tensor([[True, False]])}
    assert len(Tensors(padded, steps)) == 1  # padding need not be in range
    with pytest.raises(DataError, match="holds 0 at"):
        Tensors({**padded, "x_mask": torch.tensor([[True, True]])}, steps)
    with pytest.raises(DataError, match="needs 'x_mask'"):
        Tensors({"x": torch.ones(2, 3, 1)}, Signature({"x": Field(kind="sequence", shape=(None, 1))}))
