"""Any latent fits any encoder and decoder: every pair of parts in some model.  The parts come from the registry."""

import itertools
import warnings

import pytest
import torch
from combinations import (
    WORLDS,
    compatible_parts,
    cover,
    factors,
    is_causal,
    names,
    objectives,
    pairs,
    product,
    world,
)

import reprkit as rk

# The pairs of the core's own parts are tested in every run; those with a plugin's part are slow, whatever is installed.
CORE = [(name, *row) for name in WORLDS for row in cover(product(name, core=True))]
BEYOND = [
    (name, *row)
    for name in WORLDS
    for row in cover(product(name), [row[1:] for row in CORE if row[0] == name])
]
COVER = CORE + BEYOND


def make_model(name, encoder, latent, decoder, objective):
    torch.manual_seed(0)
    return rk.build(data=world(name)[0], encoder=encoder, latent=latent, decoder=decoder, objective=objective)


def check_training(model, batch, what):
    losses = model(batch)
    losses.total.backward()
    model.update()
    assert torch.isfinite(losses.total), what
    assert 0 <= losses.metrics["usage"] <= 1, what
    idle = [weight for weight, value in model.named_parameters() if value.grad is None]
    assert not idle, f"{what}: no gradient reaches {idle}"
    factor = model.factors["code"]
    learned = list(factor.encoder.parameters()) or list(
        factor.adapter.parameters()
    )  # flat: the adapter is it
    if not any(value.grad.any() for value in learned):
        # A part that starts as the identity connects tokens, such as kept and masked ones, only after a step.
        torch.optim.SGD(model.parameters(), lr=0.1).step()
        model.zero_grad()
        model(batch).total.backward()
    assert any(value.grad.any() for value in learned), f"{what}: the encoder learns nothing"


def check_saving(model, batch, folder, teacher):
    model.eval()
    with torch.no_grad():
        codes = model.encode(batch)
        if codes.indices is not None:
            again = model.from_indices({"code": codes.indices}, like=codes)
            torch.testing.assert_close(again.z, codes.z)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = rk.load(model.save(folder))
        loaded.eval()
        assert torch.equal(loaded.encode(batch).z, codes.z)
        target = model.target(batch, model.decode(codes)) if teacher else None
        assert torch.equal(*(output_of(each, batch, codes, target) for each in (loaded, model)))


def output_of(model, batch, codes, teacher):
    """Return the point estimate, or the likelihood of the data where a decoder has none."""
    decoded = model.decode(codes, teacher=teacher)
    return decoded.x if decoded.has_point else decoded.nll(model.target(batch, decoded))


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_every_part_is_tested_somewhere(kind):
    assert {each for name in WORLDS for each in compatible_parts(kind, name)} == set(names(kind))


def test_the_objectives_are_those_that_train_a_decoder():
    found = {name: set(objectives(name)) for name in WORLDS}
    assert all(each >= {"autoregressive", "denoising", "masked", "reconstruction"} for each in found.values())
    assert "grouped" in found["images"], "the digits have labels to group by"


@pytest.mark.parametrize("name", WORLDS)
def test_the_cover_has_every_pair_of_parts(name):
    rows = [row[1:] for row in COVER if row[0] == name]
    for one, other in itertools.combinations(range(3), 2):
        held = {(row[one], row[other]) for row in rows}
        assert held == set(itertools.product(factors(name)[one], factors(name)[other]))
    for column in range(3):  # an objective only goes with some parts
        fit = {(row[column], row[3]) for row in product(name)}
        assert {(row[column], row[3]) for row in rows} == fit
    assert {row[3] for row in rows} == set(objectives(name))
    assert len(rows) < len(product(name)) / 5


@pytest.mark.parametrize("name", WORLDS)
def test_every_run_has_every_pair_of_the_parts_of_the_core(name):
    rows = {row[1:] for row in CORE if row[0] == name}
    assert rows <= set(product(name, core=True))
    assert pairs(rows) == pairs(product(name, core=True))
    beyond = {row[1:] for row in BEYOND if row[0] == name}
    assert all(pairs([row]) - pairs(product(name, core=True)) for row in beyond), "only what the core lacks"


def test_a_cover_of_three_factors_by_hand():
    rows = list(itertools.product("ab", "cd", "ef"))
    assert pairs([("a", "c", "e")]) == {(0, "a", 1, "c"), (0, "a", 2, "e"), (1, "c", 2, "e")}
    assert len(pairs(rows)) == 12
    assert len(cover(rows)) == 4
    assert len(cover(rows, rows[:1])) == 3
    assert pairs([*cover(rows, rows[:1]), rows[0]]) == pairs(rows)
    assert pairs(cover(rows)) == pairs(rows)
    constrained = [row for row in rows if row not in {("a", "c", "e"), ("b", "d", "f")}]
    assert pairs(cover(constrained)) == pairs(constrained)


@pytest.mark.parametrize(
    ("name", "encoder", "latent", "decoder", "objective"),
    [*CORE, *(pytest.param(*row, marks=pytest.mark.slow) for row in BEYOND)],
)
def test_every_pair_of_parts_trains_and_is_saved(name, encoder, latent, decoder, objective, tmp_path):
    model, batch = make_model(name, encoder, latent, decoder, objective), world(name)[1]
    check_training(model, batch, f"{encoder} → {latent} → {decoder}, {objective}")
    check_saving(model, batch, tmp_path / "model", is_causal(decoder, name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "decoder"),
    [(name, each) for name in WORLDS for each in compatible_parts("decoder", name, core=True)],
)
def test_any_parts_of_the_core_train(name, decoder):
    for row in product(name, core=True):
        if row[2] == decoder:
            check_training(make_model(name, *row), world(name)[1], " → ".join(row))
