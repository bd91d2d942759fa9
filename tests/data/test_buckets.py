import argparse
import itertools
import wave

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.data import Arrays, Dataset, Digits, Field, Order, Signature, loader
from reprkit.data.formats.audio import Audio
from reprkit.data.formats.lines import Lines
from reprkit.data.loading.buckets import fit_to_longest, lengths_for_buckets
from reprkit.errors import DataError, PartArgumentError
from reprkit.runs.reader import read_metrics
from reprkit.testing.pool import together
from reprkit.utils.collectives import sum_over_ranks, world_size


def source():
    """Return the lines of a file that ships with Python: 1 to over 100 bytes."""
    return Lines(argparse.__file__)


@pytest.fixture(scope="module")
def lines():
    return source()


def ragged(size=90):
    """Return sequences of 2 to 40 steps, half of them short, as arrays padded to 40, and their lengths."""
    generator = np.random.default_rng(0)
    steps = np.where(
        generator.random(size) < 0.5, generator.integers(2, 8, size), generator.integers(8, 41, size)
    )
    return Arrays({"x": [generator.normal(size=(n, 3)).astype(np.float32) for n in steps]}), torch.tensor(
        steps
    )


def padding(order, lengths):
    """Return the share of padding among all steps of an epoch's batches."""
    real = padded = 0
    for step in range(order.per_epoch):
        each = lengths[order.global_batch(step)]
        real, padded = real + int(each.sum()), padded + int(each.max()) * len(each)
    return 1 - real / padded


@pytest.mark.parametrize("units", ["bytes", "characters"])
@pytest.mark.parametrize("length", [None, 20])
def test_lines_know_their_lengths(units, length, tmp_path):
    file = tmp_path / "some.txt"
    file.write_text("grüße\nein Satz mit vielen Wörtern\r\n\nx\n", encoding="utf-8")
    data = Lines(file, units, length=length)
    assert data.lengths()["x"].tolist() == [len(each["x"]) for each in data]
    part = data.subset([2, 0])
    assert part.lengths()["x"].tolist() == [len(each["x"]) for each in part]


def test_sound_files_know_their_lengths(tmp_path):
    for number, (rate, frames) in enumerate(((8000, 801), (8000, 320), (11025, 777))):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(np.arange(frames, dtype=np.int16).tobytes())
    data = Audio(tmp_path, 8000)
    assert data.lengths()["x"].tolist() == [len(each["x"]) for each in data]
    windows = Audio(tmp_path, 8000, seconds=0.02)
    assert windows.lengths() == {}


def test_arrays_know_their_lengths_from_masks():
    data, steps = ragged()
    assert torch.equal(data.lengths()["x"], steps)
    mask = torch.tensor([[True, False, True, False]])  # a hole is not the end
    assert Arrays({"x": torch.ones(1, 4, 2), "x_mask": mask}).lengths()["x"].tolist() == [3]
    assert Digits().lengths() == {}


def test_buckets_reduce_padding(lines):
    lengths = lengths_for_buckets(lines)
    plain = padding(Order(len(lines), 32, seed=1), lengths)
    buckets = padding(Order(len(lines), 32, seed=1, lengths=lengths), lengths)
    small = padding(Order(len(lines), 32, seed=1, lengths=lengths, window=4), lengths)
    assert plain > 0.4
    assert buckets < 0.1
    assert buckets < small < 0.6 * plain


def test_epoch_has_the_same_examples_as_without_buckets(lines):
    lengths = lengths_for_buckets(lines)
    plain, order = Order(len(lines), 32, seed=2), Order(len(lines), 32, seed=2, lengths=lengths, window=7)
    for epoch in range(2):
        steps = range(epoch * plain.per_epoch, (epoch + 1) * plain.per_epoch)
        one, other = (torch.cat([each.global_batch(step) for step in steps]) for each in (plain, order))
        assert sorted(one.tolist()) == sorted(other.tolist())
        assert len(one.unique()) == len(one) == len(lines) // 32 * 32
        assert torch.equal(plain.permutation(epoch)[len(one) :], order.permutation(epoch)[len(one) :])


def test_order_is_a_pure_function_and_batches_change_between_epochs(lines):
    lengths = lengths_for_buckets(lines)
    order = Order(len(lines), 32, seed=2, lengths=lengths)
    steps = range(2 * order.per_epoch)
    forwards = [order.global_batch(step) for step in steps]
    fresh = Order(len(lines), 32, seed=2, lengths=lengths)
    for step in reversed(steps):
        assert torch.equal(fresh.global_batch(step), forwards[step])
    assert not torch.equal(forwards[0], Order(len(lines), 32, seed=3, lengths=lengths).global_batch(0))
    # Batches are not in the order of lengths, and the longest line meets others in the next epoch.
    longest = [int(lengths[each].max()) for each in forwards]
    assert sum(a > b for a, b in itertools.pairwise(longest)) > len(longest) / 3
    place = int(lengths.argmax())
    first, second = (set(each.tolist()) for each in forwards if (each == place).any())
    assert len(first & second) < 32


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_the_global_batches_and_pad_alike(lines, ranks):
    lengths = lengths_for_buckets(lines)
    whole = Order(len(lines), 36, seed=4, lengths=lengths)
    orders = [Order(len(lines), 36, seed=4, lengths=lengths, ranks=ranks, rank=r) for r in range(ranks)]
    for step in (0, 1, whole.per_epoch - 1, whole.per_epoch + 3):
        assert torch.equal(torch.cat([order.at(step) for order in orders]), whole.global_batch(step))
    parts = zip(*(loader(lines, order, 3, stop=9) for order in orders), strict=True)
    for joined, alone in zip(parts, loader(lines, whole, 3, stop=9), strict=True):
        for name in ("x", "x_mask"):
            assert torch.equal(torch.cat([part[name] for part in joined]), alone[name])


@pytest.mark.parametrize("ranks", [1, 2])
def test_batches_are_as_long_as_their_longest_example(ranks):
    data, steps = ragged()
    found = 0
    for rank in range(ranks):
        order = Order(len(data), 6, ranks=ranks, rank=rank, lengths=steps)
        for step, batch in enumerate(loader(data, order, stop=order.per_epoch)):
            assert (
                batch["x"].shape[1] == batch["x_mask"].shape[1] == int(steps[order.global_batch(step)].max())
            )
            assert batch["x_mask"].sum(1).tolist() == steps[order.at(step)].tolist()
            full = data.batch(order.at(step))["x"][:, : batch["x"].shape[1]]
            assert torch.equal(batch["x"], full)
            found += batch["x"].shape[1] < 40
    assert found > 0


def test_batch_is_padded_to_the_longest_of_all_ranks():
    signature = Signature({"x": Field(kind="sequence", shape=(None, 2))})
    batch = {"x": torch.ones(2, 3, 2), "x_mask": torch.ones(2, 3, dtype=torch.bool)}
    longer = fit_to_longest(dict(batch), signature, {"x": 5})
    assert longer["x"].sum((1, 2)).tolist() == [6, 6]
    assert longer["x"].shape == (2, 5, 2)
    assert longer["x_mask"].tolist() == [[True] * 3 + [False] * 2] * 2


class UnknownLengths(Dataset):
    signature = Signature({"x": Field(kind="tokens", shape=(None,), vocab=3)})

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {"x": torch.ones(index + 1, dtype=torch.int64)}


def test_invalid_arguments_raise(lines):
    with pytest.raises(
        DataError, match=r"unknownlengths does not know them: UnknownLengths must define lengths\(\)"
    ):
        lengths_for_buckets(UnknownLengths())
    with pytest.raises(DataError, match="in digits no length varies"):
        lengths_for_buckets(Digits())
    with pytest.raises(DataError, match="the lengths of unknownlengths vary, .*several processes need them"):
        loader(UnknownLengths(), Order(8, 4, ranks=2))
    assert next(loader(UnknownLengths(), Order(8, 4)))["x"].ndim == 2  # on one process it does without
    with pytest.raises(DataError, match="at least 1 batch, not 0"):
        Order(8, 4, lengths=torch.ones(8), window=0)
    model = make(Digits())
    for wrong in (-1, 0.5, "yes"):
        with pytest.raises(
            PartArgumentError, match="buckets=.* must be True or False or an integer of at least 1"
        ):
            rk.loop(model, Digits(), steps=1, buckets=wrong)
    with pytest.raises(DataError, match="no length varies"):
        next(iter(rk.loop(model, Digits(), steps=1, buckets=True)))


def make(data, encoder="gru(width=12)", decoder="gru(width=12)"):
    torch.manual_seed(0)
    return rk.build(data=data, encoder=encoder, latent="gaussian(dim=4)", decoder=decoder)


def train(model, data, steps, until=None, **options):
    """Train and return the loss of each step and the length of its batch."""
    given = {"batch": 12, "optimizer": "sgd(momentum=0.9)", "device": "cpu", "progress": False, "clip": 5.0}
    seen = []
    for step in rk.loop(model, data, steps=steps, **{**given, "buckets": 3, **options}):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        mean = sum_over_ranks(losses.total.detach()) / world_size()
        seen.append((float(mean), step.batch["x"].shape[1]))
        if step.index + 1 == until:
            raise KeyboardInterrupt
    return seen


def test_resumed_run_is_identical(tmp_path):
    data, _ = ragged()
    whole, again = make(data), make(data)
    expected = train(whole, data, 12, out=tmp_path / "whole", log_every=1)
    with pytest.raises(KeyboardInterrupt):
        train(again, data, 12, until=8, out=tmp_path / "cut", log_every=1, save_every=1e-6)
    resumed = train(again, data, 12, out=tmp_path / "cut", log_every=1, resume=True)
    assert 0 < len(resumed) < 12
    assert resumed == expected[-len(resumed) :]
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    one, other = (read_metrics(tmp_path / name) for name in ("whole", "cut"))
    assert [line["loss"] for line in one] == [line["loss"] for line in other]
    with pytest.warns(UserWarning, match="another buckets 3 → 4"):
        train(make(data), data, 13, out=tmp_path / "cut", resume=True, buckets=4)


def on_ranks(rank, kind):
    torch.set_num_threads(1)
    data = ragged()[0] if kind == "arrays" else source().subset(range(400))
    model = make(data)
    return train(model, data, 3, lr=1e-2), [each.detach().clone() for each in model.parameters()]


@pytest.mark.slow
@pytest.mark.ranks
@pytest.mark.parametrize("kind", ["arrays", "lines"])
def test_two_processes_equal_one(kind):
    (alone, weights), results = on_ranks(0, kind), together(2, on_ranks, kind)
    assert len({steps for _, steps in alone}) > 1
    for seen, others in results:
        for (one, long), (other, also) in zip(alone, seen, strict=True):
            assert also == long
            assert other == pytest.approx(one, rel=1e-6)
        for one, other in zip(weights, others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
