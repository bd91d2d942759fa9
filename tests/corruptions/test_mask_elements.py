import pytest
import torch

from reprkit.corruptions.mask_elements import MaskElements
from reprkit.data import Field, Signature


@pytest.mark.parametrize("ratio", [0.15, 0.75])
@pytest.mark.parametrize("shape", [(100, 8, 8, 3), (300, 50), (40, 30, 5)])
def test_fraction_and_value(ratio, shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) + 1
    made, hit = MaskElements(ratio, value=-2.5)({"x": x}, torch.Generator().manual_seed(1))
    assert abs(hit.float().mean() - ratio) < 4 * (ratio * (1 - ratio) / x.numel()) ** 0.5
    assert (made["x"][hit] == -2.5).all()
    # Elements are drawn independently: the share per example scatters as a binomial's does.
    shares = hit.flatten(1).float().mean(1)
    expected = (ratio * (1 - ratio) / (x.numel() / len(x))) ** 0.5
    assert shares.std() == pytest.approx(expected, rel=0.5)


def test_symbols_become_the_mask_symbol():
    data = Signature({"x": Field(kind="tokens", shape=(40,), vocab=11)})
    x = torch.randint(11, (100, 40), generator=torch.Generator().manual_seed(0))
    made, hit = MaskElements(0.15, data=data)({"x": x}, torch.Generator().manual_seed(1))
    assert made["x"].dtype == torch.int64
    assert (made["x"][hit] == 11).all()
    assert made["x"].max() == 11
    assert (made["x"][~hit] < 11).all()
    assert abs(hit.float().mean() - 0.15) < 4 * (0.15 * 0.85 / 4000) ** 0.5


def test_ratio_one_masks_everything_and_zero_nothing():
    x = torch.ones(4, 6)
    assert not MaskElements(1.0)({"x": x})[0]["x"].any()
    assert MaskElements(0.0)({"x": x})[0]["x"].all()
