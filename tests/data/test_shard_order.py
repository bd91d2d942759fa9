"""The order of streams in shards: ranks read disjoint records, a resumed run reads none twice, and no batch depends on either."""

import warnings
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from reprkit.data import Field, Signature, Stream, loader
from reprkit.data.loading.shard_reader import EpochPlan, shuffled_indices
from reprkit.data.loading.shards import (
    SelectedShards,
    Shards,
    common_readers,
    hash_position,
    hash_positions,
    starts_of,
)
from reprkit.errors import DataError

SIZES = (37, 5, 120, 0, 64, 1, 90, 23)  # 340 records in shards of uneven sizes


class Numbered(Shards):
    """Shards of positions, which count what is read of them."""

    def __init__(self, sizes=SIZES, whole=False):
        self.sizes = np.array(sizes)
        self.starts, self.whole = starts_of(self.sizes), whole
        self.read_records = Counter()

    def read(self, shard, numbers):
        first = 0 if self.whole else int(numbers[0])
        for number in range(first, int(numbers[-1]) + 1):
            position = int(self.starts[shard]) + number
            self.read_records[position] += 1
            if number in numbers:
                yield position


class Sharded(Stream):
    """Stream of positions in shards; those in ``bad`` cannot be decoded."""

    def __init__(self, sizes=SIZES, whole=False, buffer=30, readers=16, bad=(), max_corrupt=0.5):
        self.kept = Numbered(sizes, whole)
        self.buffer, self.readers, self.bad, self.max_corrupt = buffer, readers, bad, max_corrupt
        self.decoded = Counter()
        self.signature = Signature({"x": Field(kind="vector", shape=(1,))})

    def shards(self):
        return self.kept

    def read(self):
        return iter(range(self.kept.count))

    def decode(self, record):
        if record in self.bad:
            raise ValueError("corrupt")
        self.decoded[record] += 1
        return {"x": torch.full((1,), float(record))}


def numbers(batches):
    return [batch["x"][:, 0].int().tolist() for batch in batches]


def batches(data, batch=20, start=0, stop=17, ranks=1, rank=0, seed=3):
    return numbers(loader(data, data.order(batch, seed, ranks=ranks, rank=rank), start, stop=stop))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("batch", "readers"), [(20, 16), (17, 16), (34, 4), (34, 1), (340, 500)])
def test_an_epoch_has_every_record_once(batch, readers, whole):
    data = Sharded(readers=readers, whole=whole)
    steps = 340 // batch
    for epoch in (0, 1):
        made = batches(data, batch, epoch * steps, (epoch + 1) * steps)
        assert sorted(chain(*made)) == list(range(340))
    order = data.order(batch, 3)
    assert order.per_epoch == steps
    assert [order.global_batch(step).tolist() for step in range(steps, 2 * steps)] == made
    assert made != batches(data, batch, 0, steps)
    assert made != batches(data, batch, steps, 2 * steps, seed=4)


def test_what_does_not_fill_a_batch_waits_for_another_epoch():
    data, left = Sharded(), []
    for epoch in range(4):  # 340 records are 10 batches of 32 and 20 more
        used = set(chain(*batches(data, 32, 10 * epoch, 10 * epoch + 10)))
        assert len(used) == 320
        left.append(set(range(340)) - used)
    assert len(set.union(*left)) > 40


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("batch", [12, 20, 60])
def test_ranks_read_disjoint_records_of_the_same_batches(batch, whole):
    steps = 340 // batch
    alone = batches(Sharded(whole=whole, readers=4), batch, 0, 2 * steps)
    for ranks in (2, 4):
        parts = [Sharded(whole=whole, readers=4) for _ in range(ranks)]
        made = [batches(each, batch, 0, 2 * steps, ranks, rank) for rank, each in enumerate(parts)]
        assert [list(chain(*slices)) for slices in zip(*made, strict=True)] == alone
        for each in parts:
            assert sum(each.decoded.values()) == 2 * steps * batch // ranks
        for rank, each in enumerate(parts):  # in one epoch
            each.kept.read_records.clear()
            each.decoded.clear()
            batches(each, batch, 0, steps, ranks, rank)
        assert max(Counter(chain(*(each.decoded for each in parts))).values()) == 1
        read = [each.kept.read_records for each in parts]
        if not whole and batch == 60:  # larger ones need no replacements from the next epoch
            assert max(Counter(chain(*map(Counter.elements, read))).values()) == 1, "a record was read twice"
            assert max(map(Counter.total, read)) <= 340 // ranks + ranks
        # In smaller ones the next epoch is begun; of whole shards those that two readers share are read by both from their start.
        assert sum(map(Counter.total, read)) <= 340 + 4 * (120 if whole else 16)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 4), (4, 1), (4, 2), (1, 4)])
def test_a_resumed_run_continues_on_any_number_of_ranks_and_reads_nothing_twice(before, after):
    whole = batches(Sharded(), 20, 0, 40)
    for at in (1, 9, 16, 17, 30):
        first = [Sharded() for _ in range(before)]
        second = [Sharded() for _ in range(after)]
        made = [batches(data, 20, 0, at, before, rank) for rank, data in enumerate(first)]
        more = [batches(data, 20, at, 40, after, rank) for rank, data in enumerate(second)]
        joined = [list(chain(*slices)) for slices in (*zip(*made, strict=True), *zip(*more, strict=True))]
        assert joined == whole
        # Nothing that was used in this epoch is read again: only what waited in the buffers.
        rest = [Sharded() for _ in range(after)]
        end = -(-at // 17) * 17
        for rank, data in enumerate(rest):
            batches(data, 20, at, end, after, rank)
        decoded = Counter(chain(*(data.decoded for data in rest)))
        assert sum(decoded.values()) == 20 * (end - at)
        if at % 17:
            used = set(chain(*whole[at // 17 * 17 : at]))
            assert not used & set(decoded)


def test_a_resume_reads_from_the_earliest_waiting_record():
    data = Sharded(sizes=(1000,) * 8, readers=8, buffer=80)
    batches(data, 40, 150, 151)  # 6,000 of the 8,000 records were used
    assert (
        sum(data.kept.read_records.values()) < 8 * 100
    )  # 10 a reader in the buffer, and those that left before an earlier one
    assert sum(data.decoded.values()) == 40


def test_buffers_shuffle_and_readers_have_their_share_of_it():
    order = list(shuffled_indices(10_000, 50, np.random.default_rng(0)))
    assert sorted(order) == list(range(10_000))
    assert all(index <= place + 50 for place, index in enumerate(order))
    assert np.mean(np.abs(np.array(order) - np.arange(10_000))) > 20
    assert list(shuffled_indices(6, 1, np.random.default_rng(0))) == [0, 1, 2, 3, 4, 5]
    assert sorted(shuffled_indices(6, 50, np.random.default_rng(0))) == [0, 1, 2, 3, 4, 5]
    data = Sharded(buffer=100, readers=16)
    assert [data.order(batch).readers for batch in (20, 17, 34, 64, 48)] == [10, 1, 2, 16, 16]
    assert data.order(20).buffer == 10
    assert Sharded(whole=True).order(28).readers == 7  # of eight shards, one of which is empty


def test_runs_are_equal_and_complete_however_few_shards_there_are():
    for sizes in (SIZES, (340,), (1,) * 340, (0, 0, 340, 0)):
        shards = Numbered(sizes)
        plan = EpochPlan(shards, 16, np.random.default_rng(1))
        found = [
            [int(shards.starts[shard]) + n for _, shard, each in plan.runs(reader) for n in each.tolist()]
            for reader in range(16)
        ]
        assert sorted(chain(*found)) == list(range(340))
        assert {len(each) for each in found} == {21, 22}
        assert [plan.size(reader) for reader in range(16)] == [len(each) for each in found]
        assert plan.positions(5, [0, 7, 20]) == [found[5][i] for i in (0, 7, 20)]
        assert [n for _, shard, each in plan.runs(5, 9) for n in (shards.starts[shard] + each)] == found[5][
            9:
        ]


def test_common_readers():
    for batch in range(1, 200):
        expected = max(n for n in range(1, 17) if batch % n == 0)
        assert common_readers(batch, 16) == expected


@pytest.mark.parametrize("share", [1, 2, 10])
def test_an_unreadable_record_is_replaced_alike_on_any_number_of_ranks(share):
    bad = {3, 4, 5, 150, 151, 152, 153, 339}
    batch = 4 * share
    steps = 2 * (340 // batch)

    def make():
        return Sharded(bad=bad, readers=4)

    with pytest.warns(UserWarning, match="cannot be read and is skipped: ValueError: corrupt"):
        alone = batches(make(), batch, 0, steps)
    with warnings.catch_warnings(action="ignore"):
        assert batches(make(), batch, 5, steps) == alone[5:]
        parts = [batches(make(), batch, 0, steps, 4, rank) for rank in range(4)]
    assert [list(chain(*slices)) for slices in zip(*parts, strict=True)] == alone
    clean = batches(Sharded(readers=4), batch, 0, steps)
    for one, two in zip(alone, clean, strict=True):
        assert all(a == b for a, b in zip(one, two, strict=True) if b not in bad)
        assert not set(one) & bad


def test_parts_are_divided_into_shards_too():
    data = Sharded(sizes=(400, 100, 500), readers=4)
    train, valid, test = data.split(seed=2, valid=True)
    positions = [[position for position, _ in part.numbered_records()] for part in (train, valid, test)]
    assert sorted(chain(*positions)) == list(range(1000))
    for part, expected in zip((train, valid, test), positions, strict=True):
        order = part.order(20, 1)
        made = numbers(loader(part, order, stop=order.per_epoch))
        used = list(chain(*made))
        assert len(used) == len(set(used)) == len(expected) // 20 * 20
        assert set(used) <= set(expected)
        assert part.describe()["records"] == len(expected)
    parts = [numbers(loader(train, train.order(20, 1, ranks=2, rank=rank), stop=30)) for rank in range(2)]
    whole = numbers(loader(train, train.order(20, 1), stop=30))
    assert [list(chain(*slices)) for slices in zip(*parts, strict=True)] == whole


def test_one_hash_and_many_agree():
    positions = np.array([0, 1, 2, 12345, 2**40, 2**62])
    for salt in (0, 1, 2**63 - 1):
        assert hash_positions(positions, salt).tolist() == [hash_position(int(p), salt) for p in positions]
    chosen = SelectedShards(Numbered((100, 0, 50)), (0.25, 0.75), 9)
    kept = [p for p in range(150) if 0.25 <= hash_position(p, 9) < 0.75]
    assert [int(chosen.starts[s]) + n for s in range(3) for n in chosen.numbers(s, 0, 200).tolist()] == kept
    assert chosen.count == len(kept)


def test_describe_states_how_shards_are_read():
    told = Sharded().describe()
    assert (told["shards"], told["records"], told["readers"]) == (8, 340, 16)
    assert told["reading"] == "every process reads its own part of the shards"


def test_unusable_settings_raise():
    with pytest.raises(DataError, match="the 340 records of sharded do not fill one batch of 400"):
        Sharded().order(400)
    with pytest.raises(DataError, match="shared equally"):
        Sharded().order(21, ranks=2)
    for wrong in ({"buffer": 0}, {"readers": 0}):
        with pytest.raises(DataError, match="buffer and readers are numbers from 1"):
            Sharded(**wrong).order(20)


def test_a_shard_that_fails_or_is_shorter_than_before_names_the_record():
    class Short(Numbered):
        def read(self, shard, numbers):
            return iter(list(super().read(shard, numbers))[:3])

    class Failing(Numbered):
        def read(self, shard, numbers):
            yield from list(super().read(shard, numbers))[:2]
            raise OSError("no such block")

    data = Sharded(sizes=(40,), readers=1)
    data.kept = Short((40,))
    with pytest.raises(DataError, match="record 3 of sharded is no longer there"):
        batches(data, 10, 0, 1)
    data.kept = Failing((40,))
    with pytest.raises(DataError, match="record 2 of sharded cannot be read: OSError: no such block"):
        batches(data, 10, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(workers):
    data = Sharded(sizes=(340,))  # fewer shards than workers
    alone = batches(data, 20, 0, 30)
    assert numbers(loader(data, data.order(20, 3), 0, workers, stop=30)) == alone
