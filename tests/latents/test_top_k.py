"""TopK: the k largest, their gradients, revival of dead units, masks and ranks."""

import math

import pytest
import torch

from reprkit.errors import PartArgumentError
from reprkit.latents.top_k import TopK
from reprkit.testing.pool import together
from reprkit.types import Features
from reprkit.utils import collectives


def test_the_k_largest_activations_and_their_gradients_pass():
    torch.manual_seed(0)
    latent = TopK(6, k=2).eval()
    x = torch.randn(3, 4, 6).requires_grad_()
    code = latent(Features(x=x))
    threshold = x.sort(-1, descending=True).values[..., 1:2]
    assert torch.equal(code.z, torch.where(x >= threshold, x, 0.0))
    code.z.sum().backward()
    assert torch.equal(x.grad, (x >= threshold).float())
    assert ((code.z != 0).sum(-1) == 2).all()


def dead_latent(**options):
    """Four units; the last one has not been kept for a long time."""
    latent = TopK(4, k=1, **options).train()
    latent.share.copy_(torch.tensor([0.4, 0.3, 0.3, 0.0]))
    return latent


def test_a_dead_unit_is_revived_where_its_activation_is_largest():
    x = torch.tensor([[[3.0, 0, 0, -5]], [[0, 3, 0, -1]], [[0, 0, 3, -2]]])
    code = dead_latent()(Features(x=x))
    assert code.z[:, 0].tolist() == [[3, 0, 0, 0], [0, 3, 0, -1], [0, 0, 3, 0]]
    assert dead_latent().eval()(Features(x=x)).z[1, 0].tolist() == [0, 3, 0, 0], "evaluation keeps k"
    assert dead_latent(revive=0.0)(Features(x=x)).z[1, 0].tolist() == [0, 3, 0, 0]


def test_the_share_counts_active_units_without_revived_ones():
    x = torch.tensor([[[3.0, 0, 0, -5]], [[0, 3, 0, -1]]])
    latent = dead_latent(decay=0.5)
    latent(Features(x=x))
    latent(Features(x=x[:1], mask=torch.tensor([[True]])))  # a second view of the step
    assert latent.share.tolist() == pytest.approx([0.4, 0.3, 0.3, 0.0]), "statistics change in update"
    latent.update()
    assert latent.share.tolist() == pytest.approx([0.2 + 1 / 3, 0.15 + 1 / 6, 0.15, 0.0])
    before = latent.share.clone()
    latent.update()
    assert torch.equal(latent.share, before), "a step without tokens changes nothing"


def test_revival_brings_dead_units_back():
    """A linear map whose rows but a few can never win, trained to reproduce its input."""
    used = {}
    for revive in (0.0, 0.05):
        torch.manual_seed(0)
        rows, latent = torch.nn.Linear(8, 32), TopK(32, k=2, revive=revive, decay=0.9).train()
        back = torch.nn.Linear(32, 8)
        torch.nn.init.constant_(rows.bias[4:].data, -1.5)
        optimizer = torch.optim.Adam([*rows.parameters(), *back.parameters()], lr=0.02)
        data = torch.randn(64, 1, 8)
        for _ in range(300):
            loss = (back(latent(Features(x=rows(data))).z) - data).square().sum(-1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            latent.update()
        used[revive] = int((latent.eval()(Features(x=rows(data))).z != 0).any(0).any(0).sum())
    assert used[0.0] < 16
    assert used[0.05] > 1.5 * used[0.0], used


def test_padding_has_no_effect():
    x, mask = torch.randn(2, 3, 4), torch.tensor([[True, True, False], [True, False, False]])
    results = []
    for fill in (0.0, 50.0, math.nan):
        latent = dead_latent()
        code = latent(Features(x=x.masked_fill(~mask[..., None], fill), mask=mask))
        latent.update()
        results.append((code.z[mask], latent.share))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    nothing = dead_latent()(Features(x=x, mask=torch.zeros_like(mask)))
    assert (nothing.z.count_nonzero(-1) <= 1).all(), "a dead unit is kept at no padded token"


def test_arguments_are_checked():
    with pytest.raises(PartArgumentError, match="k=5 is larger than dim=4"):
        TopK(4, k=5)
    for wrong in ({"k": 0}, {"revive": 1.0}, {"decay": 1.0}):
        with pytest.raises(PartArgumentError, match=next(iter(wrong))):
            TopK(**wrong)


def a_step(rank):
    size = collectives.world_size()
    x = torch.randn(8, 2, 4, generator=torch.Generator().manual_seed(3))
    latent = dead_latent()
    code = latent(Features(x=x[rank * 8 // size : (rank + 1) * 8 // size]))
    latent.update()
    return collectives.gather(code.z), latent.share


@pytest.mark.ranks
def test_two_ranks_equal_one_process():
    whole = a_step(0)
    for pair in together(2, a_step):
        torch.testing.assert_close(pair, whole)
    assert (whole[0][..., 3] != 0).sum() >= 1
