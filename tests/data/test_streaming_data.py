import json
from itertools import chain

import pytest
import torch

import reprkit as rk
from reprkit.data import Field, Signature, Stream, loader
from reprkit.errors import DataError
from reprkit.runs.reader import read_record
from reprkit.testing import DatasetConformance


class Counting(Stream):
    """Stream of integers; those in ``bad`` cannot be decoded; with ``varying`` the lengths vary."""

    def __init__(self, size=50, buffer=7, bad=(), varying=False, max_corrupt=0.01):
        self.size, self.buffer, self.bad, self.varying, self.max_corrupt = (
            size,
            buffer,
            bad,
            varying,
            max_corrupt,
        )
        kind = Field(kind="sequence", shape=(None, 1)) if varying else Field(kind="vector", shape=(1,))
        self.signature = Signature({"x": kind})

    def read(self):
        return iter(range(self.size))

    def decode(self, record):
        if record in self.bad:
            raise ValueError("corrupt")
        return {"x": torch.full((1 + record % 5, 1) if self.varying else (1,), float(record))}


def numbers(batches):
    return [batch["x"].reshape(len(batch["x"]), -1)[:, 0].int().tolist() for batch in batches]


def test_epoch_has_each_record_once_in_its_own_order():
    data = Counting()
    orders = [[int(each["x"]) for each in data.stream(seed=3, epoch=epoch)] for epoch in (0, 1)]
    assert [sorted(order) for order in orders] == [list(range(50))] * 2
    assert orders[0] != orders[1] != list(range(50))
    assert orders[0] == [int(each["x"]) for each in data.stream(seed=3, epoch=0)]
    assert orders[0] != [int(each["x"]) for each in data.stream(seed=4, epoch=0)]
    # A record leaves the buffer no earlier than it could have come in.
    assert all(record <= place + 7 for place, record in enumerate(orders[0]))
    assert [int(each["x"]) for each in data] == list(range(50))
    assert [int(each["x"]) for each in Counting(buffer=1).stream()] == list(range(50))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_cut_the_epochs_and_do_not_depend_on_the_start(workers):
    data = Counting()
    made = numbers(loader(data, data.order(8, seed=3), workers=workers, stop=20))
    for epoch in range(3):
        whole = [int(each["x"]) for each in data.stream(seed=3, epoch=epoch)]
        assert list(chain(*made[6 * epoch : 6 * epoch + 6])) == whole[:48]  # the last two wait
    for start in (1, 5, 6, 7, 13, 19):
        assert numbers(loader(data, data.order(8, seed=3), start, workers, stop=20)) == made[start:]


def test_positions_of_a_step():
    data = Counting()
    order = data.order(8, seed=3, ranks=2, rank=1)
    made = numbers(loader(data, data.order(8, seed=3), stop=15))
    assert [order.global_batch(step).tolist() for step in (14, 0, 6)] == [made[14], made[0], made[6]]
    assert order.at(14).tolist() == made[14][4:]


@pytest.mark.parametrize("varying", [False, True])
def test_ranks_take_slices_of_one_batch_despite_unreadable_records(varying):
    data = Counting(bad={5, 20, 21, 22, 41}, varying=varying)
    with pytest.warns(
        UserWarning, match=r"record \d+ of counting cannot be read and is skipped: ValueError: corrupt"
    ):
        whole = list(loader(data, data.order(12, seed=1), stop=9))
    with pytest.warns(UserWarning, match="is skipped"):
        parts = [
            list(loader(each, each.order(12, seed=1, ranks=3, rank=rank), stop=9))
            for rank, each in enumerate(Counting(bad=data.bad, varying=varying) for _ in range(3))
        ]
    for step, batch in enumerate(whole):
        for name, value in batch.items():
            assert torch.equal(torch.cat([part[step][name] for part in parts]), value)
    seen = {number for batch in numbers(whole) for number in batch}
    assert not seen & set(data.bad)


def test_unreadable_records_are_counted_in_workers_too():
    data = Counting(bad={3, 30})
    with pytest.warns(UserWarning, match="is skipped"):
        assert len(list(data.stream())) == 48
    assert (data.skipped, data.describe()["skipped_count"]) == (2, 2)
    data = Counting(bad={3, 30}, buffer=1)
    made = numbers(loader(data, data.order(5), workers=2, stop=10))
    assert made[0] == [0, 1, 2, 4, 4]  # the next one stands in
    assert made[6] == [31, 31, 32, 33, 34]
    assert data.skipped == 2


def test_too_many_unreadable_records_raise():
    data = Counting(size=40, bad=set(range(0, 40, 3)))
    with (
        pytest.warns(UserWarning, match="is skipped"),
        pytest.raises(DataError, match="11 of .* records of counting .* max_corrupt=0.01"),
    ):
        list(loader(data, data.order(8), stop=10))
    data = Counting(bad=set(range(50)), max_corrupt=1.0)
    with (
        pytest.warns(UserWarning, match="is skipped"),
        pytest.raises(DataError, match="the records after it"),
    ):
        list(loader(data, data.order(16), stop=1))


def test_unsupported_operations_raise():
    data = Counting()
    for wrong in (lambda: len(data), lambda: data[0], lambda: data.batch([0]), lambda: data.subset([1])):
        with pytest.raises(DataError, match=r"stream.*(?s:.)*take\(n\)"):
            wrong()
    with pytest.raises(DataError, match="do not fill one batch of 64"):
        next(loader(data, data.order(64)))
    with pytest.raises(DataError, match="shared equally"):
        data.order(9, ranks=2)
    with pytest.raises(DataError, match="buckets"):
        data.order(8, buckets=True)
    with pytest.raises(DataError, match="is empty"):
        rk.dataset(Counting(size=0))
    assert rk.dataset(data) is data


def test_failing_read_names_the_record():
    class Broken(Counting):
        def read(self):
            yield from range(12)
            raise OSError("the line went dead")

    data = Broken(buffer=1)
    with pytest.raises(DataError, match="record 12 of broken cannot be read: OSError: the line went dead"):
        list(loader(data, data.order(5), stop=4))


def test_split_is_disjoint_and_complete_and_take_returns_the_first():
    data = Counting(size=1000)
    train, valid, test = data.split(seed=2, valid=True)
    parts = [[int(each["x"]) for each in part] for part in (train, valid, test)]
    assert sorted(chain(*parts)) == list(range(1000))
    assert all(abs(len(part) - size) < 50 for part, size in zip(parts, (700, 100, 200), strict=True))
    assert [int(each["x"]) for each in data.split(seed=2)[1]] == parts[2]
    assert [int(each["x"]) for each in data.split(seed=3)[1]] != parts[2]
    assert train.order(8).global_batch(0).tolist() == [
        int(v) for v in next(loader(train, train.order(8)))["x"][:, 0]
    ]
    few = test.take(5)
    assert (len(few), few.batch(range(5))["x"][:, 0].tolist()) == (5, parts[2][:5])
    assert len(test.take(10_000)) == len(parts[2])
    assert json.loads(json.dumps(train.describe()))["part"] == "train"
    uneven = Counting(size=9, varying=True).take(9)
    assert uneven.batch(range(9))["x_mask"].sum(1).tolist() == [1 + n % 5 for n in range(9)]


def test_conformance_detects_a_changing_stream():
    class Changing(Counting):
        def decode(self, record):
            return {"x": torch.rand(1)}

    case = DatasetConformance()
    case.make = Changing
    with pytest.raises(AssertionError, match="the same seed gave another split"):
        case.test_split_is_disjoint_and_complete()


@pytest.mark.slow
def test_run_record_lists_skipped_records(tmp_path):
    data = Counting(size=60, bad={7, 8})
    model = rk.build(
        data=data, encoder="mlp(widths=(4,))", latent="continuous(dim=1)", decoder="mlp(widths=(4,))"
    )
    with pytest.warns(UserWarning, match="is skipped"):
        rk.fit(model, data, steps=3, batch=20, out=tmp_path, device="cpu")
    description = read_record(tmp_path)["data"]
    assert (description["skipped_count"], sorted(each["name"] for each in description["skipped"])) == (
        2,
        ["record 7", "record 8"],
    )
