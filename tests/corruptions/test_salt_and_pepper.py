import pytest
import torch

from reprkit.corruptions.salt_and_pepper import SaltAndPepper
from reprkit.data import Field, Signature
from reprkit.errors import BuildError


def binomial(share, p, n):
    return abs(float(share) - p) < 4 * (p * (1 - p) / n) ** 0.5


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_fraction_and_equal_odds_of_extremes(ratio):
    x = torch.full((100, 8, 8, 3), 0.5)
    made, hit = SaltAndPepper(ratio, range=(-1, 2))({"x": x}, torch.Generator().manual_seed(0))
    assert binomial(hit.float().mean(), ratio, x.numel())
    assert set(made["x"][hit].unique().tolist()) == {-1.0, 2.0}
    assert binomial((made["x"][hit] == 2).float().mean(), 0.5, int(hit.sum()))


def test_extreme_ratios():
    x = torch.full((5, 4), 0.5)
    made, hit = SaltAndPepper(0.0, range=(0, 1))({"x": x})
    assert torch.equal(made["x"], x)
    assert not hit.any()
    made, hit = SaltAndPepper(1.0, range=(0, 1))({"x": x})
    assert ((made["x"] == 0) | (made["x"] == 1)).all()
    assert hit.all()


def test_the_range_defaults_to_that_of_the_data():
    data = Signature({"x": Field(kind="vector", shape=(4,), range=(3.0, 4.0))})
    assert SaltAndPepper(data=data).range == (3.0, 4.0)
    assert SaltAndPepper(range=(0, 1), data=data).range == (0.0, 1.0)
    with pytest.raises(BuildError, match="signature has no range"):
        SaltAndPepper(data=Signature({"x": Field(kind="vector", shape=(4,))}))
