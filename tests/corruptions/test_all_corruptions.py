"""The core's corruptions beyond the conformance kit: explicit generators, passed-on fields, errors."""

import pytest
import torch

from reprkit.data.signature import Column, Field, Signature
from reprkit.errors import BuildError, DataError, PartArgumentError
from reprkit.registry.create import create
from reprkit.testing.small import small_references

FIELDS = {
    "image": Field(kind="image", shape=(8, 8, 2), range=(0.0, 1.0)),
    "vector": Field(kind="vector", shape=(30,), range=(0.0, 1.0)),
    "sequence": Field(kind="sequence", shape=(None, 3), range=(0.0, 1.0)),
    "tokens": Field(kind="tokens", shape=(None,), vocab=7),
}
PARTS = small_references("corruption")


def make(part, kind):
    return create("corruption", part, data=Signature({"x": FIELDS[kind]}))


def supports(part, kind):
    try:
        make(part, kind)
    except BuildError:
        return False
    return True


PAIRS = [(part, kind) for part in PARTS for kind in FIELDS if supports(part, kind)]
UNSUPPORTED = [(part, kind) for part in PARTS for kind in FIELDS if (part, kind) not in PAIRS]


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


@pytest.mark.parametrize(("part", "kind"), PAIRS)
def test_hit_elements_change_and_other_fields_are_passed_on(part, kind):
    batch = example(kind)
    damaged, hit = make(part, kind)(batch, torch.Generator().manual_seed(1))
    assert (damaged["x"] != batch["x"])[hit].float().mean() > 0.9  # the data is never at an extreme already
    assert damaged["x"].isfinite().all()
    assert all(damaged[name] is value for name, value in batch.items() if name != "x")


@pytest.mark.parametrize(("part", "kind"), PAIRS)
def test_an_explicit_generator_replaces_the_global_one(part, kind):
    corruption, batch = make(part, kind), example(kind)
    state = torch.get_rng_state()
    explicit = corruption(batch, torch.Generator().manual_seed(3))[0]["x"]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    assert torch.equal(corruption(batch)[0]["x"], explicit)


@pytest.mark.parametrize(("part", "kind"), PAIRS)
def test_two_ranks_with_equal_generators_draw_as_one_process(part, kind, monkeypatch):
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


@pytest.mark.parametrize(("part", "kind"), UNSUPPORTED)
def test_unsupported_data_is_refused_at_build(part, kind):
    with pytest.raises(BuildError, match=f"x is {kind}"):
        make(part, kind)


@pytest.mark.parametrize(
    "part", [part for part, kind in UNSUPPORTED if kind == "tokens" and "salt" not in part]
)
def test_symbols_are_refused_when_the_data_is_not_known(part):
    with pytest.raises(BuildError, match="x is tokens|reads images"):
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


def test_columns_of_a_table_are_corrupted_in_standard_deviations_of_each():
    columns = (
        Column("income", mean=40_000.0, std=9_000.0),
        Column("height", mean=1.7, std=0.1),
        Column("city", "category", classes=("Lima", "Oslo")),
    )
    data = Signature({"x": Field(kind="vector", shape=(4,), columns=columns)})
    plain = Signature({"x": Field(kind="vector", shape=(4,))})
    standard = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
    center, scale = torch.tensor([40_000.0, 1.7, 0, 0]), torch.tensor([9_000.0, 0.1, 1, 1])
    for part in ("gaussian-noise(std=0.5)", "dropout(ratio=0.3)", "mask-elements(ratio=0.3, value=0.5)"):
        made, hit = create("corruption", part, data=data)(
            {"x": standard * scale + center}, torch.Generator().manual_seed(1)
        )
        wanted, same = create("corruption", part, data=plain)(
            {"x": standard}, torch.Generator().manual_seed(1)
        )
        assert torch.equal(hit, same)
        torch.testing.assert_close((made["x"] - center) / scale, wanted["x"], rtol=1e-4, atol=1e-4)
