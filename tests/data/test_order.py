import itertools
import random

import numpy as np
import pytest
import torch

from reprkit.data import Dataset, Digits, Field, Order, Signature, Tensors, loader
from reprkit.errors import DataError


class Noisy(Dataset):
    """Examples with random noise from three generators, as an augmentation would draw it."""

    signature = Signature({"x": Field(kind="vector", shape=(4,))})

    def __len__(self):
        return 12

    def __getitem__(self, index):
        noise = [torch.rand(()).item(), random.random(), np.random.rand()]
        return {"x": torch.tensor([float(index), *noise])}


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def test_epoch_has_every_example_once_except_the_incomplete_batch():
    order = Order(50, 8, seed=3)
    assert order.per_epoch == 6
    for epoch in range(3):
        seen = torch.cat([order.at(6 * epoch + place) for place in range(6)]).tolist()
        assert len(seen) == len(set(seen)) == 48
        assert set(seen) <= set(range(50))
    assert sorted(torch.cat([Order(48, 8).at(step) for step in range(6)]).tolist()) == list(range(48))


def test_order_is_a_pure_function_of_seed_and_step():
    order = Order(50, 8, seed=3)
    forwards = [order.at(step) for step in range(20)]
    backwards = [order.at(step) for step in reversed(range(20))][::-1]
    fresh = [Order(50, 8, seed=3).at(step) for step in range(20)]
    for one, two, three in zip(forwards, backwards, fresh, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)
    assert not torch.equal(forwards[0], forwards[6])  # the second epoch is another permutation
    assert not torch.equal(forwards[0], Order(50, 8, seed=4).at(0))
    state = torch.get_rng_state()
    Order(50, 8, seed=9).at(100)
    assert torch.equal(torch.get_rng_state(), state)
    assert [step for step, _ in order.steps_from(5, 8)] == [5, 6, 7]
    assert torch.equal(take(order, 3)[2], forwards[2])


def test_dropped_examples_differ_between_epochs():
    order = Order(10, 4, seed=0)
    seen = torch.cat([order.at(step) for step in range(40)]).bincount(minlength=10)
    assert seen.min() > 8  # 20 epochs of 8 of 10: 16 times on average


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_have_contiguous_slices_of_the_global_batch(ranks):
    for step in (0, 5, 6, 17):
        parts = [Order(50, 8, seed=3, ranks=ranks, rank=rank).at(step) for rank in range(ranks)]
        assert torch.equal(torch.cat(parts), Order(50, 8, seed=3).at(step))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((5, 8), "5 examples do not fill one batch of 8: give batch=5"),
        ((0, 8), "0 examples"),
        ((50, 0), "batch and ranks from 1"),
        ((50, 8, 0, 3), "cannot be shared equally by 3 processes; make it a multiple: 6 or 9"),
        ((50, 2, 0, 3), "3 or 3"),
        ((50, 8, 0, 2, 2), "rank below ranks"),
        ((50, 8, -1), "from 0, not -1"),
        ((50, 8, 0.5), r"from 0, not 0\.5"),
    ],
)
def test_invalid_arguments_raise(arguments, says):
    size, batch, *rest = arguments
    named = dict(zip(("seed", "ranks", "rank"), rest, strict=False))
    with pytest.raises(DataError, match=says):
        Order(size, batch, **named)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_follows_the_order_from_any_step_on(workers):
    data = Digits()
    order = Order(len(data), 256, seed=1)
    whole = [data.batch(order.at(step)) for step in range(9)]  # over the end of an epoch of 7 steps
    for start, stop in ((0, 9), (5, 9)):
        batches = list(loader(data, order, start, workers, stop=stop))
        assert len(batches) == stop - start
        for batch, expected in zip(batches, whole[start:stop], strict=True):
            assert batch.keys() == expected.keys()
            for name in batch:
                assert torch.equal(batch[name], expected[name])


def test_loader_is_endless_without_stop():
    data = Digits()
    assert len(take(loader(data, Order(len(data), 600)), 7)) == 7


def test_random_examples_depend_neither_on_workers_nor_on_resuming():
    order = Order(12, 4, seed=7)
    one = [batch["x"] for batch in loader(Noisy(), order, 0, 1, stop=6)]
    two = [batch["x"] for batch in loader(Noisy(), order, 0, 2, stop=6)]
    resumed = [batch["x"] for batch in loader(Noisy(), order, 4, 2, stop=6)]
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one[4:], resumed, strict=True))
    noise = torch.cat(one)[:, 1:]
    assert len(noise.flatten().unique()) == noise.numel()  # no two draws alike: workers are not copies
    other = next(loader(Noisy(), Order(12, 8, seed=7, ranks=2, rank=1), 0, 1, stop=1))["x"]
    assert not torch.equal(other[:, 1:], one[0][:, 1:])


def test_global_random_state_is_unchanged():
    state = torch.get_rng_state()
    for workers in (0, 1):
        take(
            loader(Noisy() if workers else Digits(), Order(12 if workers else 1797, 4), 0, workers, stop=2), 2
        )
    assert torch.equal(torch.get_rng_state(), state)


def test_order_of_another_size_raises_at_once():
    with pytest.raises(DataError, match="the order is for 50 examples and digits has 1797"):
        loader(Digits(), Order(50, 8))
    with pytest.raises(DataError, match="number of processes"):
        loader(Noisy(), Order(12, 4), workers=-1)


def test_batches_of_data_in_memory_are_copies():
    data = Tensors(
        {"x": torch.zeros(4, 2)}, Noisy.signature.from_json({"x": {"kind": "vector", "shape": [2]}})
    )
    next(loader(data, Order(4, 4)))["x"].add_(1)
    assert data.batch([0])["x"].sum() == 0


def test_global_batch_is_the_concatenation_of_the_ranks_slices():
    orders = [Order(20, 6, seed=3, ranks=2, rank=rank) for rank in range(2)]
    for step in (0, 2, 3, 7):
        parts = [order.at(step).tolist() for order in orders]
        assert (
            orders[0].global_batch(step).tolist()
            == orders[1].global_batch(step).tolist()
            == parts[0] + parts[1]
        )
