import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.models.grid import align, from_tokens, row_grid, to_tokens, upsample
from reprkit.types import Features

IMAGE = Field(kind="image", shape=(8, 8, 1), range=(0.0, 1.0))


@pytest.fixture
def digits():
    return torch.tensor(load_digits().images[:5] / 16, dtype=torch.float32).unsqueeze(-1)


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (4, 2), (8, 8), (8, 1)])
def test_tokens_are_blocks_and_from_tokens_inverts(digits, grid):
    tokens = to_tokens(digits, grid, "image")
    assert tokens.shape == (5, grid[0] * grid[1], 64 // (grid[0] * grid[1]))
    assert torch.equal(from_tokens(tokens, grid, IMAGE), digits)
    # Against plain indexing: the last token is the lower right block.
    height, width = 8 // grid[0], 8 // grid[1]
    assert torch.equal(tokens[:, -1], digits[:, -height:, -width:].flatten(1))


@pytest.mark.parametrize(
    ("kind", "shape", "grid"),
    [("sequence", (6, 3), (2,)), ("tokens", (6,), (3,)), ("vector", (7,), (1,)), ("label", (), (1,))],
)
def test_from_tokens_inverts_other_kinds(kind, shape, grid):
    field = Field(kind=kind, shape=shape, vocab=99 if kind in ("tokens", "label") else None)
    x = torch.arange(2 * int(np.prod(shape))).reshape(2, *shape)
    assert torch.equal(from_tokens(to_tokens(x, grid, kind), grid, field), x)


def test_a_grid_that_does_not_divide_raises(digits):
    with pytest.raises(BuildError, match=r"\(3, 2\) tokens does not divide image data of size \(8, 8\)"):
        to_tokens(digits, (3, 2), "image")


def test_row_grid_of_images(digits):
    assert row_grid(IMAGE, digits) == (8, 1)
    assert torch.equal(to_tokens(digits, (8, 1), "image"), digits.squeeze(-1))


def test_visible_tokens_return_to_their_positions():
    x = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
    positions = torch.tensor([[0, 3], [1, 2]])
    laid, present = align(Features(x=x, positions=positions, length=4), 4)
    assert laid.squeeze(-1).tolist() == [[1, 0, 0, 2], [0, 3, 4, 0]]
    assert present.tolist() == [[True, False, False, True], [False, True, True, False]]


def test_one_token_is_broadcast_and_grids_are_resampled_in_two_dimensions():
    one = Features(x=torch.ones(2, 1, 3))
    assert align(one, 5)[0].shape == (2, 5, 3)
    square = Features(x=torch.arange(4.0).reshape(1, 4, 1), grid=(2, 2))
    laid, present = align(square, 16, (4, 4))
    assert present is None
    assert laid.reshape(4, 4).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    line = Features(x=torch.arange(2.0).reshape(1, 2, 1), grid=(2,))
    assert align(line, 5, (5,))[0].flatten().tolist() == [0, 0, 0, 1, 1]


def test_hits_are_upsampled_to_another_grid(digits):
    hit = torch.tensor([[True, False, False, False]])
    spread_out = upsample(hit, (2, 2), (8, 8), IMAGE, digits[:1])
    assert spread_out.shape == (1, 64, 1)
    assert spread_out.reshape(8, 8)[:4, :4].all()
    assert spread_out.sum() == 16
