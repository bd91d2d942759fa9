"""A further data set beside the one that is trained on."""

import pytest
import torch

import reprkit as rk
from reprkit.errors import DataError, TrainingError
from reprkit.testing.pool import together

PARTS = {"encoder": "mlp(widths=(8,))", "latent": "gaussian(dim=2)", "decoder": "mlp(widths=(8,))"}


def table(size, seed):
    return rk.dataset({"x": torch.randn(size, 3, generator=torch.Generator().manual_seed(seed))})


def train(rank=0, out=None, until=None, **options):
    """Train on two streams; return the weights, and the values of the second stream's batches."""
    torch.set_num_threads(1)
    data, labelled = table(40, 0), table(24, 1)
    model = rk.build(data=data, **PARTS)
    seen = []
    given = {
        "steps": 9,
        "batch": 8,
        "lr": 1e-2,
        "optimizer": "sgd",
        "out": out,
        "progress": False,
        "device": "cpu",
    }
    extra = {"labelled": (labelled, 4)}
    for step in rk.loop(model, data, extra=extra, **{**given, **options}):
        total = step.model(step.batch).total
        if options.get("accumulate", 1) == 1:
            total = total + 0.5 * step.model(step.extra["labelled"]).total
        step.backward(total)
        step.update()
        seen.append(step.extra["labelled"]["x"].clone())
        if until is not None and step.index + 1 == until:
            break
    return model.state_dict(), seen


def test_every_step_has_a_batch_of_each():
    _, seen = train()
    assert [each.shape for each in seen] == [(4, 3)] * 9
    data = table(24, 1)
    rows = data.batch(range(24))["x"]
    epoch = torch.cat(seen[:6])
    assert sorted(map(tuple, epoch.tolist())) == sorted(map(tuple, rows.tolist())), (
        "an epoch has all examples"
    )
    assert not torch.equal(torch.cat(seen[6:]), epoch[:12])


def test_pieces_of_a_step_share_its_examples():
    whole, pieces = train()[1], train(accumulate=2)[1]
    assert [each.shape for each in pieces] == [(2, 3)] * 18
    assert torch.equal(torch.cat(pieces), torch.cat(whole))


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole, seen = train(out=tmp_path / "whole")
    train(out=tmp_path / "part", steps=4)
    again, rest = train(out=tmp_path / "part", resume=True)
    assert torch.equal(torch.cat(rest), torch.cat(seen[4:]))
    assert all(torch.equal(again[name], value) for name, value in whole.items())


@pytest.mark.ranks
def test_two_processes_train_as_one():
    _, seen = train()
    pair = together(2, train)
    joined = [torch.cat(parts) for parts in zip(pair[0][1], pair[1][1], strict=True)]
    assert torch.equal(torch.cat(joined), torch.cat(seen))


def test_unsuitable_data_is_refused():
    with pytest.raises(TrainingError, match="takes a data set, or"):
        next(
            iter(rk.loop(rk.build(data=table(8, 0), **PARTS), table(8, 0), steps=1, batch=8, extra={"a": 3}))
        )
    with pytest.raises(DataError, match="do not fill one batch"):
        next(
            iter(
                rk.loop(
                    rk.build(data=table(8, 0), **PARTS),
                    table(8, 0),
                    steps=1,
                    batch=8,
                    extra={"a": table(4, 1)},
                )
            )
        )
    with pytest.raises(TrainingError, match="rk.fit trains on one data set"):
        rk.fit(rk.build(data=table(8, 0), **PARTS), table(8, 0), steps=1, batch=8, extra={"a": table(8, 1)})
