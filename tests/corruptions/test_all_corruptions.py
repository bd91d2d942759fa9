"""Properties of every corruption, on every kind of data that it supports."""

import pytest
import torch

from reprkit.corruptions.base import ElementCorruption
from reprkit.data import Digits
from reprkit.data.signature import Field, Signature
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.registry.create import create
from reprkit.testing.pool import together

FIELDS = {
    "image": Field(kind="image", shape=(8, 8, 2), range=(0.0, 1.0)),
    "vector": Field(kind="vector", shape=(30,), range=(0.0, 1.0)),
    "sequence": Field(kind="sequence", shape=(None, 3), range=(0.0, 1.0)),
    "tokens": Field(kind="tokens", shape=(None,), vocab=7),
}
REAL = ("image", "vector", "sequence")
TAKES = {
    "gaussian-noise(std=0.3)": REAL,
    "salt-and-pepper(ratio=0.3)": REAL,
    "mask-elements(ratio=0.3)": (*REAL, "tokens"),
    "mask-patches(ratio=0.5, patch=2)": ("image",),
    "mask-spans(ratio=0.3, length=3)": ("sequence", "tokens"),
    "dropout(ratio=0.3)": REAL,
}
PAIRS = [(part, kind) for part, kinds in TAKES.items() for kind in kinds]
UNFIT = [(part, kind) for part, kinds in TAKES.items() for kind in FIELDS if kind not in kinds]


def example(kind, size=6, length=20, seed=0):
    """Generate random data in the open range, so that changes are visible; the second half of example 1 is padding."""
    field = FIELDS[kind]
    generator = torch.Generator().manual_seed(seed)
    shape = [size, *(length if n is None else n for n in field.shape)]
    if kind == "tokens":
        batch = {"x": torch.randint(7, shape, generator=generator)}
    else:
        batch = {"x": torch.rand(shape, generator=generator) * 0.8 + 0.1}
    if None in field.shape:
        batch["x_mask"] = torch.ones(shape[:2], dtype=torch.bool)
        batch["x_mask"][1, length // 2 :] = False
    batch["label"] = torch.arange(size)
    return batch


def make(part, kind):
    return create("corruption", part, data=Signature({"x": FIELDS[kind]}))


@pytest.mark.parametrize(("part", "kind"), PAIRS)
def test_only_hit_elements_change_and_the_input_is_not_modified(part, kind):
    batch = example(kind)
    before = {name: value.clone() for name, value in batch.items()}
    damaged, hit = make(part, kind)(batch, torch.Generator().manual_seed(1))
    assert isinstance(damaged, dict)
    assert hit.dtype == torch.bool
    assert hit.shape == batch["x"].shape
    assert damaged["x"].dtype == batch["x"].dtype
    assert hit.any()
    assert torch.equal(damaged["x"][~hit], before["x"][~hit])
    assert (damaged["x"] != before["x"])[hit].float().mean() > 0.9  # the data is never at an extreme already
    for name, value in before.items():
        assert torch.equal(batch[name], value)
        if name != "x":
            assert damaged[name] is batch[name]


@pytest.mark.parametrize(("part", "kind"), [pair for pair in PAIRS if None in FIELDS[pair[1]].shape])
def test_padding_is_never_hit(part, kind):
    corruption = make(part, kind)
    for seed in range(10):
        batch = example(kind)
        damaged, hit = corruption(batch, torch.Generator().manual_seed(seed))
        assert not hit[~batch["x_mask"]].any()
        assert torch.equal(damaged["x"][~batch["x_mask"]], batch["x"][~batch["x_mask"]])


@pytest.mark.parametrize(("part", "kind"), PAIRS)
def test_draws_come_from_the_generator_or_the_global_state(part, kind):
    corruption, batch = make(part, kind), example(kind)
    state = torch.get_rng_state()
    given = [corruption(batch, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), state)  # a generator that is given is the only one used
    assert torch.equal(given[0][0]["x"], given[1][0]["x"])
    assert torch.equal(given[0][1], given[1][1])
    assert not torch.equal(given[0][0]["x"], given[2][0]["x"])
    draws = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        draws.append(corruption(batch)[0]["x"])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[0], given[0][0]["x"])


@pytest.mark.parametrize(("part", "kind"), PAIRS)
def test_two_ranks_draw_as_one_process(part, kind, monkeypatch):
    corruption, batch = make(part, kind), example(kind)
    whole, whole_hit = corruption(batch, torch.Generator().manual_seed(5))
    monkeypatch.setattr("reprkit.utils.collectives.world_size", lambda: 2)
    rows = []
    for rank in range(2):
        monkeypatch.setattr("reprkit.utils.collectives.rank", lambda rank=rank: rank)
        own = {name: value[3 * rank : 3 * rank + 3] for name, value in batch.items()}
        rows.append(corruption(own, torch.Generator().manual_seed(5)))
    assert torch.equal(torch.cat([damaged["x"] for damaged, _ in rows]), whole["x"])
    assert torch.equal(torch.cat([hit for _, hit in rows]), whole_hit)


def _half(rank, part, kind):
    own = {name: value[3 * rank : 3 * rank + 3] for name, value in example(kind).items()}
    torch.manual_seed(9)
    return make(part, kind)(own)[0]["x"]


@pytest.mark.ranks
def test_two_processes_draw_as_one():
    part, kind = "mask-spans(ratio=0.3, length=3)", "sequence"
    torch.manual_seed(9)
    whole = make(part, kind)(example(kind))[0]["x"]
    assert torch.equal(torch.cat(together(2, _half, part, kind)), whole)


@pytest.mark.parametrize(("part", "kind"), UNFIT)
def test_unsupported_data_is_refused_at_build(part, kind):
    with pytest.raises(BuildError, match=f"x is {kind}"):
        make(part, kind)


@pytest.mark.parametrize(
    "part", [part for part, kinds in TAKES.items() if "tokens" not in kinds and "salt" not in part]
)
def test_symbols_are_refused_when_the_data_is_not_known(part):
    with pytest.raises(BuildError, match="x is tokens"):
        create("corruption", part)({"x": torch.zeros(2, 5, dtype=torch.int64)})


@pytest.mark.parametrize("part", ["mask-elements", "mask-spans"])
def test_the_mask_symbol_needs_the_vocabulary(part):
    with pytest.raises(BuildError, match="give data="):
        create("corruption", part)({"x": torch.zeros(2, 5, dtype=torch.int64)})
    with pytest.raises(BuildError, match="value= has no effect"):
        create("corruption", f"{part}(value=1.0)", data=Signature({"x": FIELDS["tokens"]}))


@pytest.mark.parametrize(
    "part",
    [
        "gaussian-noise(std=0)",
        "gaussian-noise(std=-1)",
        "gaussian-noise(std='a')",
        "salt-and-pepper(ratio=1.1, range=(0, 1))",
        "salt-and-pepper(range=(1, 0))",
        "salt-and-pepper(range=(0, 1, 2))",
        "mask-elements(ratio=-0.1)",
        "mask-elements(ratio=True)",
        "mask-elements(value='a')",
        "mask-patches(patch=0)",
        "mask-patches(patch=(2, 2, 2))",
        "mask-patches(patch=1.5)",
        "mask-patches(ratio=2)",
        "mask-spans(length=0)",
        "mask-spans(length=2.0)",
        "mask-spans(ratio=1.5)",
        "dropout(ratio=1)",
        "dropout(rate=0.1)",
    ],
)
def test_arguments_out_of_range_are_refused(part):
    with pytest.raises(PartArgumentError):
        create("corruption", part)


def test_a_batch_without_x_is_refused():
    with pytest.raises(DataError, match="'x', and the batch has label"):
        create("corruption", "dropout")({"label": torch.zeros(3)})


@pytest.mark.parametrize("part", [part for part, kinds in TAKES.items() if "image" in kinds])
def test_corrupted_digits_keep_shape_and_range(part):
    digits = Digits()
    corruption = create("corruption", part, data=digits.signature)
    assert isinstance(corruption, ElementCorruption)
    damaged, hit = corruption(digits.batch(range(200)), torch.Generator().manual_seed(0))
    assert damaged["x"].shape == hit.shape == (200, 8, 8, 1)
    assert damaged["x"].isfinite().all()
