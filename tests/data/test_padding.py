import pytest
import torch

from reprkit.data.padding import length_mask, pad, pad_to_length
from reprkit.errors import DataError


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("sizes", [(), (3,), (2, 4)])
def test_shorter_values_are_padded_with_zeros_and_masked(sizes, dtype):
    lengths = [2, 5, 1]
    values = [torch.ones(length, *sizes, dtype=dtype) for length in lengths]
    made, mask = pad(values, "x")
    assert made.shape == (3, 5, *sizes)
    assert made.dtype == dtype
    assert mask.tolist() == [[step < length for step in range(5)] for length in lengths]
    for row, value in enumerate(values):
        assert torch.equal(made[row][mask[row]], value)
        assert not made[row][~mask[row]].any()


@pytest.mark.parametrize(
    ("bad", "shape"),
    [(torch.tensor(1.0), r"\(\)"), (torch.empty(0, 3), r"\(0, 3\)"), (torch.ones(2, 4), r"\(2, 4\)")],
)
def test_shapes_that_do_not_fit_raise(bad, shape):
    with pytest.raises(
        DataError, match=rf"'x' has shape {shape} in example 1 .*\(2, 3\) in example 0.*first dimension"
    ):
        pad([torch.ones(2, 3), bad], "x")


def test_length_mask():
    assert length_mask(torch.tensor([0, 2, 3]), 3).tolist() == [[False] * 3, [True, True, False], [True] * 3]


def test_pad_to_length_never_cuts():
    value = torch.ones(2, 3, 4)
    made = pad_to_length(value, 5)
    assert torch.equal(made[:, :3], value)
    assert made.shape == (2, 5, 4)
    assert not made[:, 3:].any()
    assert pad_to_length(value, 2) is value
    assert pad_to_length(torch.ones(1, 1, dtype=torch.bool), 3).tolist() == [[True, False, False]]
    assert pad_to_length(torch.ones(1, 1, 2, 2), 2).shape == (1, 2, 2, 2)
