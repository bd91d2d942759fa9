"""Fields of kind "map": symbols on a grid of rows and columns."""

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.data import Arrays, Field, Signature
from reprkit.data.collation import collate
from reprkit.errors import DataError
from reprkit.models.grid import from_tokens, row_grid, to_tokens
from reprkit.reporting.field_figures import exhibit

FIELD = Field(kind="map", shape=(4, 6), vocab=5)


def digit_levels(levels=4):
    """The digits' gray levels as symbols on their grid (n 8 8)."""
    x = rk.dataset("digits").batch(range(400))["x"][..., 0]
    return Arrays({"x": (x * (levels - 1)).round().long()}, kinds={"x": "map"}, vocabs={"x": levels})


def test_the_signature_survives_json():
    assert Signature.from_json(Signature({"x": FIELD}).to_json())["x"] == FIELD
    assert (FIELD.discrete, FIELD.space, FIELD.steps, FIELD.channels) == (True, (4, 6), 24, 1)
    assert FIELD.likelihood == "categorical"


def test_a_map_needs_a_vocabulary():
    with pytest.raises(DataError, match="maps need vocab="):
        Field(kind="map", shape=(4, 6))
    with pytest.raises(DataError, match=r"\(h w\), not \(4,\)"):
        Field(kind="map", shape=(4,), vocab=2)


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (4, 6), (4, 1)])
def test_tokens_are_blocks_of_cells(grid):
    x = torch.arange(2 * 24).view(2, 4, 6)
    tokens = to_tokens(x, grid, "map")
    assert tokens.shape == (2, grid[0] * grid[1], 24 // (grid[0] * grid[1]))
    torch.testing.assert_close(from_tokens(tokens, grid, FIELD), x)
    if grid == (2, 3):
        assert tokens[0, 0].tolist() == [0, 1, 6, 7]


def test_a_sequence_reads_it_cell_by_cell():
    x = torch.zeros(2, 4, 6, dtype=torch.int64)
    assert row_grid(FIELD, x) == (4, 6)


def test_arrays_and_collation_keep_symbols():
    values = np.random.default_rng(0).integers(0, 5, (7, 4, 6))
    values[0, 0, 0] = 4
    data = Arrays({"x": values}, kinds={"x": "map"})
    assert data.signature["x"] == FIELD
    batch = collate([data[0], data[3]], data.signature)
    assert (batch["x"].dtype, list(batch)) == (torch.int64, ["x"])
    assert batch["x"].tolist() == values[[0, 3]].tolist()


def test_a_symbol_outside_of_the_vocabulary_is_refused():
    with pytest.raises(DataError, match=r"holds 4 at \[0, 0, 0\]"):
        Arrays({"x": np.full((2, 4, 6), 4)}, kinds={"x": "map"}, vocabs={"x": 4})


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        ("conv(width=16, depth=1)", "conv(width=16, depth=1)"),
        ("vit(patch=2, width=16, depth=1, heads=2)", "vit(patch=2, width=16, depth=1, heads=2)"),
        ("mlp(width=64)", "mlp(width=64)"),
        ("flat", "flat"),
    ],
)
def test_parts_learn_to_reconstruct(encoder, decoder):
    data = digit_levels()
    model = rk.build(data=data, encoder=encoder, latent="continuous(dim=8)", decoder=decoder)
    losses = []
    for step in rk.loop(model, data, steps=30, batch=64, lr=3e-3):
        out = step.model(step.batch)
        step.backward(out.total)
        step.update()
        losses.append(float(out.terms["reconstruction"].detach()))
    assert losses[-1] < 0.8 * losses[0]
    batch = data.batch(range(4))
    with torch.no_grad():
        decoded = model.eval().decode(model.encode(batch))
        again = model.to_batch(decoded)["x"]
    assert (again.shape, again.dtype) == (batch["x"].shape, torch.int64)


def test_a_causal_decoder_draws_whole_maps(tmp_path):
    data = digit_levels()
    decoder = "transformer(width=16, depth=1, heads=2, causal=True)"
    model = rk.build(data=data, decoder=decoder, objective="autoregressive")
    model.save(tmp_path)
    model = rk.load(tmp_path)
    first = data.batch(range(2))["x"][:, :3]
    drawn = model.generate(prime=first, seed=0)
    assert drawn.grid == (8, 8)
    x = model.to_batch(drawn)["x"]
    assert x.shape == (2, 8, 8)
    torch.testing.assert_close(x[:, :3], first)


def test_a_page_draws_it_as_an_image():
    (figure,) = exhibit("maps", FIELD, {"data": np.arange(24).reshape(1, 4, 6) % 5})
    assert figure.span == (0.0, 4.0)
    assert "<img" in figure.html()


def test_masked_patches_hold_the_mask_symbol():
    corruption = rk.create("corruption", "mask-patches(ratio=0.5)", data=Signature({"x": FIELD}))
    view, hit = corruption({"x": torch.ones(3, 4, 6, dtype=torch.int64)})
    assert (view["x"][hit] == FIELD.vocab).all()
    assert (view["x"][~hit] == 1).all()
    assert hit.flatten(1).sum(1).tolist() == [12, 12, 12]
