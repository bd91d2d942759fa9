import pytest
import torch

from reprkit.corruptions.dropout import Dropout


def test_it_zeroes_a_fraction_and_rescales_the_others():
    x = torch.rand(300, 64, generator=torch.Generator().manual_seed(0)) + 1
    made, hit = Dropout(0.3)({"x": x}, torch.Generator().manual_seed(1))
    zero = made["x"] == 0
    assert abs(zero.float().mean() - 0.3) < 4 * (0.21 / x.numel()) ** 0.5
    assert torch.equal(made["x"][~zero], x[~zero] / 0.7)
    assert hit.all()  # what stays is rescaled, so nothing is left as it was
    assert made["x"].mean() == pytest.approx(float(x.mean()), rel=0.02)


def test_it_agrees_with_torch_in_distribution():
    x = torch.ones(400, 50)
    torch.manual_seed(0)
    ours, theirs = Dropout(0.5)({"x": x})[0]["x"], torch.nn.functional.dropout(x, 0.5)
    assert set(ours.unique().tolist()) == set(theirs.unique().tolist()) == {0.0, 2.0}
    assert abs(ours.mean() - theirs.mean()) < 4 * (2 / x.numel()) ** 0.5


def test_padding_is_neither_dropped_nor_rescaled():
    x, mask = torch.ones(10, 6, 2), torch.arange(6).expand(10, 6) < 4
    made, hit = Dropout(0.5)({"x": x, "x_mask": mask})
    assert (made["x"][~mask] == 1).all()
    assert not hit[~mask].any()
    assert not (made["x"][mask] == 1).any()
