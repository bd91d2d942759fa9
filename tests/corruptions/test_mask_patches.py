import pytest
import torch

from reprkit.corruptions.mask_patches import MaskPatches
from reprkit.data import Digits
from reprkit.errors import BuildError


@pytest.mark.parametrize(("patch", "rows", "columns"), [(2, 4, 4), ((4, 2), 2, 4), (8, 1, 1)])
def test_equal_numbers_of_whole_patches_in_all_channels(patch, rows, columns):
    x = torch.rand(60, 8, 8, 3, generator=torch.Generator().manual_seed(0)) + 1
    made, hit = MaskPatches(0.75, patch=patch, value=0.5)({"x": x}, torch.Generator().manual_seed(1))
    cells = hit.reshape(60, rows, 8 // rows, columns, 8 // columns, 3).permute(0, 1, 3, 2, 4, 5).flatten(3)
    assert torch.equal(cells.all(-1), cells.any(-1))  # a patch is hidden whole, or not at all
    assert (cells.all(-1).sum((1, 2)) == round(0.75 * rows * columns)).all()
    assert (made["x"][hit] == 0.5).all()


def test_every_patch_is_equally_likely():
    x = torch.ones(2000, 8, 8, 1)
    _, hit = MaskPatches(0.5, patch=2)({"x": x}, torch.Generator().manual_seed(0))
    share = hit[:, ::2, ::2, 0].float().mean(0)
    assert ((share - 0.5).abs() < 4.5 * (0.25 / 2000) ** 0.5).all()


def test_patches_must_divide_the_image():
    with pytest.raises(BuildError, match="3 x 3 do not divide an image of 8 x 8"):
        MaskPatches(patch=3, data=Digits().signature)
    with pytest.raises(BuildError, match="3 x 3 do not divide"):
        MaskPatches(patch=3)({"x": torch.ones(2, 8, 8, 1)})
    with pytest.raises(BuildError, match=r"images \(b h w c\)"):
        MaskPatches(patch=2)({"x": torch.ones(2, 8)})
