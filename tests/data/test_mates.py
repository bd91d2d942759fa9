"""The order that puts members of a group into one batch."""

import pytest
import torch

import reprkit as rk
from reprkit.data import Order
from reprkit.errors import DataError


def verses(size=60, groups=7):
    generator = torch.Generator().manual_seed(0)
    verse = torch.randint(groups, (size,), generator=generator)
    return rk.dataset({"x": torch.randn(size, 3, generator=generator), "verse": verse}), verse


@pytest.mark.parametrize("mates", [2, 3, 4])
def test_mates_share_a_batch_and_an_epoch_has_every_example(mates):
    data, verse = verses()
    order = data.order(12, 3, groups="verse", mates=mates)
    whole = [order.permutation(epoch) for epoch in range(3)]
    for permutation in whole:
        assert sorted(permutation.tolist()) == list(range(60))
        rows = verse[permutation].view(-1, mates)
        complete = sum(int(count) // mates for count in verse.bincount())
        assert int((rows == rows[:, :1]).all(1).sum()) >= complete
    assert not torch.equal(whole[0], whole[1])
    partners = [{frozenset(row) for row in each.view(-1, mates).tolist()} for each in whole]
    assert partners[0] != partners[1], "mates change from epoch to epoch"
    again = data.order(12, 3, groups="verse", mates=mates)
    assert torch.equal(again.permutation(2), whole[2]), "a pure function of seed and epoch"
    shares = [data.order(12, 3, groups="verse", mates=mates, ranks=2, rank=rank).at(1) for rank in (0, 1)]
    assert torch.equal(torch.cat(shares), order.at(1))


def test_subsets_know_their_groups():
    data, verse = verses()
    part = data.subset(torch.arange(0, 60, 2))
    assert torch.equal(part.label_values("verse"), verse[::2])
    rows = verse[::2][part.order(10, groups="verse").permutation(0)].view(-1, 2)
    assert (rows[:, 0] == rows[:, 1]).float().mean() > 0.7


def test_unsuitable_groups_are_refused():
    data, verse = verses()
    with pytest.raises(DataError, match=r"groups='x' is not a label field.*it has verse"):
        data.order(12, groups="x")
    with pytest.raises(DataError, match="does not hold whole rows of mates=5"):
        data.order(12, groups="verse", mates=5)
    with pytest.raises(DataError, match="give buckets= or groups="):
        Order(60, 12, lengths=torch.ones(60), groups=verse)
    alone = rk.dataset({"x": torch.randn(8, 3), "verse": torch.arange(8)})
    with pytest.raises(DataError, match="no two examples"):
        alone.order(4, groups="verse")


def test_grouped_finds_mates_for_all_examples():
    data, _ = verses(size=64, groups=16)
    parts = {"encoder": "mlp(widths=(8,))", "latent": "continuous(dim=2)", "decoder": "mlp(widths=(8,))"}
    shares = {}
    for groups in (None, "verse"):
        model = rk.build(data=data, objective="grouped(label='verse')", **parts)
        found = []
        for step in rk.loop(model, data, steps=8, batch=8, groups=groups, progress=False):
            losses = step.model(step.batch)
            step.backward(losses.total)
            step.update()
            found.append(float(losses.metrics["mates"]))
        shares[groups] = sum(found) / len(found)
    assert shares["verse"] > 0.8 > 0.6 > shares[None], shares
