"""What each column, pixel or step adds to an anomaly score."""

import numpy as np
import pandas as pd
import pytest
import torch

import reprkit as rk
from reprkit.data import Table
from reprkit.errors import BuildError
from reprkit.evaluation import anomaly_contributions, anomaly_scores

MIXED = {"encoder": "mlp(width=8)", "latent": "continuous(dim=2)", "decoder": "mlp(width=8)"}


@pytest.fixture(scope="module")
def people():
    """Rows with numbers of different units, a category and gaps."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "income": random.normal(40_000, 9_000, 30),
            "height": random.normal(1.7, 0.1, 30),
            "city": random.choice(["Lima", "Oslo", "Rome"], 30),
        }
    )
    frame.loc[4, "height"] = None
    return frame


@pytest.mark.parametrize("score", ["nll", "error", "error-under-noise"])
def test_columns_add_up_to_the_score(people, score):
    data = Table(people)
    model = rk.build(data=data, **MIXED, seed=0)
    found = anomaly_contributions(model, data, score, progress=False)
    assert found.values.shape == (30, 3)
    np.testing.assert_allclose(
        found.values.sum(1), anomaly_scores(model, data, score, progress=False), rtol=1e-6
    )
    assert found.values[4, 1] == 0  # a gap


def test_the_frame_is_in_the_table_s_own_units_with_the_largest_first(people):
    data = Table(people)
    model = rk.build(data=data, **MIXED, seed=0)
    found = anomaly_contributions(model, data.subset([3, 4]), "error", progress=False)
    frame = found.frame()
    assert list(frame) == ["row", "column", "value", "expected", "contribution"]
    assert frame["row"].tolist() == [0, 0, 0, 1, 1, 1]
    assert (frame.groupby("row")["contribution"].diff().dropna() <= 0).all()
    back = model.reconstruct(people.iloc[[3, 4]], to="pandas")
    first = frame[frame["row"] == 0].set_index("column")
    assert first.loc["income", "value"] == pytest.approx(people["income"][3], rel=1e-6)
    assert first.loc["income", "expected"] == pytest.approx(back["income"].iloc[0], rel=1e-5)
    assert first.loc["city", "value"] == people["city"][3]
    assert first.loc["city", "expected"] == back["city"].iloc[0]
    assert pd.isna(frame[(frame["row"] == 1) & (frame["column"] == "height")]["value"].item())
    assert len(found.frame(top=1)) == 2


def test_errors_of_columns_are_in_their_standard_deviations(people):
    """Otherwise the income alone would decide: its errors are millions of times larger."""
    data = Table(people)
    model = rk.build(data=data, **MIXED, seed=0)
    found = anomaly_contributions(model, data, "error", progress=False)
    income = data.signature["x"].columns[0]
    expected = ((found.observed[:, 0] - found.expected[:, 0]) / income.std) ** 2
    np.testing.assert_allclose(found.values[:, 0], expected, rtol=1e-4)


def test_pixels_of_pictures(digits):
    images = digits[0].subset(range(7))
    model = rk.build(
        data=images,
        encoder="vit(patch=4, width=16, depth=1, heads=2)",
        latent="continuous(dim=4)",
        decoder="vit(patch=4, width=16, depth=1, heads=2)",
        seed=0,
    )
    found = anomaly_contributions(model, images, "error", batch=3, progress=False)
    batch = images.batch(range(7))
    with torch.no_grad():
        output = model.to_batch(model.decode(model.encode(batch)))["x"]  # not clipped to the range
    squares = (output - batch["x"]).square().sum(-1)
    np.testing.assert_allclose(found.values, squares.numpy(), rtol=1e-4, atol=1e-6)
    assert found.expected.shape == (7, 8, 8, 1)
    assert [type(block).__name__ for block in found.blocks(["one"] * 7)] == ["Images", "Images"]
    with pytest.raises(BuildError, match="only the columns of rows have names, and the data is image"):
        found.frame()


def test_steps_of_padded_sequences(table):
    """Batches of different lengths are joined; padding adds nothing."""
    random = np.random.default_rng(0)
    mask = np.arange(6)[None] < np.array([6, 2, 3, 1])[:, None]
    data = table(random.normal(size=(4, 6, 2)), mask=torch.from_numpy(mask))
    model = rk.build(
        data=data,
        encoder="gru(width=8)",
        latent="continuous(dim=2)",
        decoder="gru(width=8, causal=False)",
        seed=0,
    )
    found = anomaly_contributions(model, data, "nll", batch=2, progress=False)
    assert found.values.shape == (4, 6)
    assert (found.values[~mask] == 0).all()
    scores = anomaly_scores(model, data, "nll", batch=2, progress=False)
    np.testing.assert_allclose(found.values.sum(1), scores, rtol=1e-5)


def test_scores_of_the_code_have_no_contributions(people):
    data = Table(people)
    model = rk.build(data=data, **MIXED, seed=0)
    for score in ("code-nll", "neighbors"):
        with pytest.raises(BuildError, match=f"the score '{score}' is of the code"):
            anomaly_contributions(model, data, score)


def test_the_page_says_which_columns(people):
    data = Table(people)
    model = rk.build(data=data, **MIXED, seed=0)
    note, table, *others = anomaly_contributions(model, data.subset([0, 4]), "nll", progress=False).blocks(
        ["first", "second"], top=2
    )
    assert note.text == "first"
    assert len(table.rows) == 2
    assert len(others) == 2
    assert "city" in others[1].html() or "income" in others[1].html()
