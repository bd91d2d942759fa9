import json

import pytest
import torch

from reprkit.data import Dataset, Digits, Field, Signature, Subset
from reprkit.errors import DataError


class Words(Dataset):
    """Map-style data set as a third party writes it: words of different lengths."""

    signature = Signature(
        {"x": Field(kind="tokens", shape=(None,), vocab=9), "label": Field(kind="label", shape=(), vocab=3)}
    )

    def __init__(self, size=10):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return {"x": torch.arange(1 + index % 4), "label": torch.tensor(index % 3)}


@pytest.fixture(scope="module")
def digits():
    return Digits()


def test_split_is_disjoint_complete_and_decided_by_its_seed(digits):
    train, test = digits.split(seed=1)
    assert (len(train), len(test)) == (1438, 359)
    assert sorted(torch.cat([train.indices, test.indices]).tolist()) == list(range(1797))
    again, other = digits.split(seed=1), digits.split(seed=2)
    assert torch.equal(again[0].indices, train.indices)
    assert torch.equal(again[1].indices, test.indices)
    assert not torch.equal(other[1].indices, test.indices)
    state = torch.get_rng_state()
    digits.split(seed=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_validation_part_is_taken_from_the_training_part(digits):
    train, valid, test = digits.split(seed=1, valid=True)
    assert (len(train), len(valid), len(test)) == (1258, 180, 359)
    assert sorted(torch.cat([train.indices, valid.indices, test.indices]).tolist()) == list(range(1797))
    assert torch.equal(test.indices, digits.split(seed=1)[1].indices)


def test_split_is_unbiased(digits):
    counts = torch.zeros(1797)
    for seed in range(200):
        counts[digits.split(seed=seed)[1].indices] += 1
    assert abs(counts.mean() / 200 - 359 / 1797) < 1e-6
    assert counts.std() < 1.15 * (200 * 0.2 * 0.8) ** 0.5  # no example is favoured over the seeds


@pytest.mark.parametrize(
    "shares", [{"test_share": 0}, {"test_share": 1.0}, {"test_share": 0.95, "valid": True}]
)
def test_invalid_shares_raise(digits, shares):
    with pytest.raises(DataError, match="must lie between 0 and 1"):
        digits.split(**shares)


def test_too_few_examples_to_split_raise():
    with pytest.raises(DataError, match="2 examples are too few for train, valid, test"):
        Words(2).split(valid=True)
    assert [len(part) for part in Words(3).split(valid=True)] == [1, 1, 1]
    with pytest.raises(DataError, match="integers from 0, not -1"):
        Words().split(seed=-1)


def test_subsets_keep_signature_and_vectorized_batches(digits, monkeypatch):
    train, _ = digits.split()
    assert train.signature is digits.signature
    picked = torch.tensor([5, 0, 1437])
    expected = digits.batch(train.indices[picked])
    monkeypatch.setattr(type(digits), "__getitem__", None)  # a batch never goes through single examples
    for name, value in train.batch(picked).items():
        assert torch.equal(value, expected[name])
    monkeypatch.undo()
    assert torch.equal(train[3]["x"], digits[int(train.indices[3])]["x"])
    assert torch.equal(train[-1]["x"], digits[int(train.indices[-1])]["x"])
    with pytest.raises(IndexError):
        train[1438]


def test_nested_subsets_are_one_look_up(digits):
    train, _ = digits.split(seed=1)
    inner, held = train.split(seed=2)
    assert inner.data is digits
    assert torch.equal(torch.cat([inner.indices, held.indices]).sort().values, train.indices.sort().values)
    assert torch.equal(inner.batch([4])["x"][0], digits[int(inner.indices[4])]["x"])
    assert inner.describe()["within"] == {"part": "train", "seed": 1, "test_share": 0.2}


def test_batches_are_in_order_and_complete():
    data = Words(10)
    found = list(data.batches(4))
    assert [len(batch["x"]) for batch in found] == [4, 4, 2]
    assert torch.cat([batch["label"] for batch in found]).tolist() == [index % 3 for index in range(10)]
    with pytest.raises(DataError, match="at least 1"):
        list(data.batches(0))


def test_the_default_batch_pads_and_masks():
    batch = Words().batch([3, 0, 1])
    assert batch["x"].tolist() == [[0, 1, 2, 3], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert batch["x_mask"].sum(1).tolist() == [4, 1, 2]
    assert batch["label"].tolist() == [0, 0, 1]
    part = Words().subset([9, 2], part="few")
    assert torch.equal(part.batch(torch.tensor([1]))["x"], torch.tensor([[0, 1, 2]]))
    assert part.name == "words (few)"


@pytest.mark.parametrize("indices", [[], [10], [-1], [[0, 1]]])
def test_invalid_subsets_raise(indices):
    with pytest.raises(DataError):
        Subset(Words(), torch.tensor(indices))


def test_description_is_json(digits):
    train, _ = digits.split(seed=4)
    record = json.loads(json.dumps(train.describe()))
    assert (record["name"], record["size"], record["of"], record["seed"]) == ("digits (train)", 1438, 1797, 4)
    assert Signature.from_json(record["signature"]) == digits.signature


def test_torch_can_load_it():
    made = torch.utils.data.DataLoader(Words(6), batch_size=None)
    assert [len(item["x"]) for item in made] == [1, 2, 3, 4, 1, 2]


def test_a_slice_is_a_subset_and_other_indices_are_explained():
    data = Digits()
    part = data[2:10:3]
    assert [int(part[index]["label"]) for index in range(3)] == [
        int(data[index]["label"]) for index in (2, 5, 8)
    ]
    assert len(part) == 3
    assert len(part[:2][-1:]) == 1
    assert len(data[-4:]) == 4
    with pytest.raises(DataError, match=r"data\[start:stop\] or data.subset\(numbers\), not data\[list\]"):
        data[[1, 2]]
