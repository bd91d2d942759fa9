"""The shared building blocks against small references."""

import math

import pytest
import torch

from reprkit.data.signature import Field
from reprkit.errors import BuildError
from reprkit.layers.attention import Blocks, attention_mask
from reprkit.layers.convolution import group_norm
from reprkit.layers.dropout import Dropout
from reprkit.layers.gather_rows import gather_rows, gather_tokens
from reprkit.layers.patches import patch_grid
from reprkit.layers.positions import sinusoidal_positions, sinusoidal_positions_2d
from reprkit.layers.resample_tokens import ResampleTokens
from reprkit.types import Features


@pytest.mark.parametrize(
    ("height", "width", "patch"),
    [
        (8, 8, 2),
        (28, 28, 4),
        (32, 32, 4),
        (64, 64, 8),
        (96, 96, 12),
        (224, 224, 16),
        (12, 20, 2),
        (9, 9, 1),
        (7, 5, 1),
    ],
)
def test_the_default_patch_fits_the_image(height, width, patch):
    rows, columns, side = patch_grid(Field(kind="image", shape=(height, width, 3)), None, "encoder vit")
    assert side == patch
    assert (rows * side, columns * side) == (height, width)


def test_an_image_without_a_good_patch_raises():
    with pytest.raises(BuildError, match="97 x 101"):
        patch_grid(Field(kind="image", shape=(97, 101, 3)), None, "encoder vit")


@pytest.mark.parametrize("width", [1, 2, 7, 16])
def test_sinusoidal_positions(width):
    found = sinusoidal_positions(torch.arange(5), width)
    half = (width + 1) // 2
    for position in range(5):
        for index in range(width):
            angle = position / 10_000 ** (index % half / half)
            expected = math.sin(angle) if index < half else math.cos(angle)
            assert found[position, index].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("width", [4, 15, 32])
def test_each_cell_has_its_own_position(width):
    table = sinusoidal_positions_2d((5, 6), width)
    assert table.shape == (30, width)
    apart = torch.cdist(table, table) + torch.eye(30)
    assert apart.min() > 0.05
    assert torch.equal(table[0, : width // 2], table[1, : width // 2])  # the same row


def test_attention_mask():
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert attention_mask(None, True) is None
    assert attention_mask(mask, False)[:, 0].tolist() == [[[True, True, False]], [[True, True, True]]]
    assert attention_mask(mask, True)[0, 0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert attention_mask(mask, True)[1, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("width", [1, 3, 6, 7, 64, 512])
def test_groups_have_at_least_four_channels(width):
    norm = group_norm(width)
    assert width % norm.num_groups == 0
    assert width // norm.num_groups >= min(4, width)
    assert norm.num_groups <= 32


def test_more_tokens_than_positions_are_merged_by_blocks():
    """16 cells (4 x 4) on 4 positions (2 x 2): the input of a position is its own block, in reading order."""
    resample = ResampleTokens(8, tokens=16, places=4)
    assert (resample.group, resample.in_dim) == (4, 4)
    resample.join = torch.nn.Identity()
    x = torch.arange(16.0).view(1, 16, 1).expand(-1, -1, 4)
    blocks = resample(Features(x=x, grid=(4, 4)), 4, (2, 2))[0, :, ::4]
    assert blocks.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    rows = resample(Features(x=x, grid=(16, 1)), 4)[0, :, ::4]
    assert rows.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]


def test_fewer_tokens_than_positions_are_repeated_nearest():
    resample = ResampleTokens(1, tokens=4, places=16)
    x = torch.arange(4.0).view(1, 4, 1)
    cells = resample(Features(x=x, grid=(2, 2)), 16, (4, 4)).view(4, 4)
    assert cells.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    rows = resample(Features(x=x, grid=(4, 1)), 8)
    assert rows.flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_rows_on_fewer_rows_of_cells_are_not_dropped():
    """8 rows on 4 x 4 cells: laying cells on cells would drop every other row."""
    resample = ResampleTokens(1, tokens=8, places=16)
    x = torch.arange(8.0).view(1, 8, 1)
    assert set(resample(Features(x=x, grid=(8, 1)), 16, (4, 4)).flatten().tolist()) == set(range(8))


def test_absent_and_invalid_tokens():
    resample = ResampleTokens(2, tokens=4, places=4, absent=True)
    x = torch.ones(1, 2, 2)
    found = resample(Features(x=x, positions=torch.tensor([[3, 1]]), length=4, grid=(2, 2)), 4, (2, 2))
    torch.testing.assert_close(found[0, [0, 2]], resample.absent.detach().expand(2, -1))
    assert torch.equal(found[0, [1, 3]], x[0])
    half = torch.tensor([[True, False]])
    found = resample(Features(x=x, mask=half, positions=torch.tensor([[3, 1]]), length=4), 4)
    torch.testing.assert_close(found[0, :3], resample.absent.detach().expand(3, -1))
    assert torch.equal(found[0, 3], x[0, 0])
    plain = ResampleTokens(2, tokens=None, places=None)
    masked = plain(Features(x=torch.ones(1, 2, 2), mask=torch.tensor([[True, False]])), 2)
    assert masked.tolist() == [[[1, 1], [0, 0]]]


def partial_features(count=3, places=6, width=4):
    """The code of an encoder that kept two tokens of each example, in any order."""
    generator = torch.Generator().manual_seed(0)
    kept = torch.rand(count, places, generator=generator).argsort(1)[:, :2]
    return Features(x=torch.randn(count, 2, width, generator=generator), positions=kept, length=places)


def test_distinct_tokens_equal_the_resampled_code():
    torch.manual_seed(0)
    resample, table = ResampleTokens(4, tokens=2, places=6, absent=True), torch.randn(6, 4)
    rows, index = resample.distinct_tokens(partial_features(), table)
    assert rows.shape == (6 + 3 * 2, 4)
    assert torch.equal(gather_rows(rows, index), resample(partial_features(), 6) + table)
    with torch.autocast("cpu", torch.bfloat16):
        assert resample.distinct_tokens(partial_features(), table) is None
    whole = Features(x=torch.randn(3, 6, 4))
    masked = Features(x=torch.randn(3, 2, 4), mask=torch.ones(3, 2, dtype=torch.bool), length=6)
    for other in (whole, masked, partial_features(places=12)):
        assert resample.distinct_tokens(other, table) is None
    assert ResampleTokens(4, tokens=2, places=6).distinct_tokens(partial_features(), table) is None


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("some", [True, False])
def test_blocks_over_distinct_tokens_equal_blocks_over_all(some, depth, dropout):
    torch.manual_seed(0)
    blocks = Blocks(8, depth=depth, heads=2, dropout=dropout)
    rows, index = torch.randn(7, 8, requires_grad=True), torch.randint(7, (3, 5))
    queries = torch.tensor([[4, 0], [1, 2], [3, 3]]) if some else None
    found = []
    for tokens, which in ((rows, index), (gather_rows(rows, index), None)):
        torch.manual_seed(1)
        out = blocks(tokens, queries=queries, index=which)
        held = [rows, *blocks.parameters()]
        found.append([out, *torch.autograd.grad(out.square().sum(), held)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_gather_tokens_per_example():
    x, keep = torch.randn(4, 6, 3), torch.randint(6, (4, 2))
    assert torch.equal(gather_tokens(x, keep), torch.take_along_dim(x, keep.unsqueeze(-1), dim=1))


def test_dropout_keeps_the_mean():
    torch.manual_seed(0)
    drop, x = Dropout(0.25), torch.ones(100, 200)
    found = drop(x)
    torch.testing.assert_close(found.unique(), torch.tensor([0, 4 / 3]))
    assert abs(float(found.mean()) - 1) < 0.02
    assert torch.equal(drop.eval()(x), x)
