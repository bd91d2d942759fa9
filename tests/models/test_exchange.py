"""What goes into a model and what comes out: arrays, tensors, DataFrames, lists of examples, in the data's own units."""

import numpy as np
import pandas as pd
import pytest
import torch

import reprkit as rk
from reprkit.data.formats.arrays import Arrays
from reprkit.data.formats.table import Table
from reprkit.errors import BuildError, DataError, PartArgumentError

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "income": RNG.normal(40_000, 9_000, 40),
        "city": ["Bonn", "Cork"] * 20,
        "since": pd.date_range("2020-01-01", periods=40, freq="D"),
    }
)


def build(data, encoder="mlp(width=8)", latent="continuous(dim=2)", decoder="mlp(width=8)"):
    return rk.build(data=data, encoder=encoder, latent=latent, decoder=decoder)


@pytest.fixture(scope="module")
def table_model():
    return build(Table(FRAME))


@pytest.fixture(scope="module")
def image_model():
    pixels = RNG.random((20, 4, 4, 1), dtype=np.float32)
    return build(
        Arrays(pixels),
        encoder="vit(patch=2, width=8, depth=1, heads=2)",
        decoder="vit(patch=2, width=8, depth=1, heads=2)",
    )


@pytest.mark.parametrize(
    ("to", "kind"), [("numpy", np.ndarray), ("torch", torch.Tensor), ("pandas", pd.DataFrame)]
)
def test_representations_have_no_gradient(table_model, to, kind):
    table_model.train()
    found = table_model.represent(FRAME, to=to)
    assert isinstance(found, kind)
    assert found.shape == (40, 2)
    assert table_model.training
    assert not (to == "torch" and found.requires_grad)
    with torch.no_grad():
        np.testing.assert_array_equal(np.asarray(found), table_model.eval().represent(FRAME).numpy())


def test_tables_come_back_in_their_own_units(table_model):
    found = table_model.reconstruct(FRAME.assign(income=np.nan), to="pandas")
    assert list(found) == list(FRAME)
    assert set(found["city"]) <= {"Bonn", "Cork"}
    assert 10_000 < found["income"].mean() < 70_000
    assert not found.isna().any().any()
    assert abs(found["since"].mean() - FRAME["since"].mean()) < pd.Timedelta(days=60)
    array = table_model.reconstruct(FRAME, to="numpy")
    assert set(np.unique(array[:, 1:3])) <= {0.0, 1.0}
    assert (array[:, 1:3].sum(1) == 1).all()
    np.testing.assert_allclose(array[:, 0], table_model.reconstruct(FRAME, to="pandas")["income"], rtol=1e-6)


def test_pixels_stay_within_their_range(image_model):
    pixels = RNG.random((3, 4, 4, 1), dtype=np.float32)
    model = build(Arrays(pixels))
    codes = model.encode(pixels, to="numpy")
    far = codes["code"] * 1e4
    free = model.to_batch(model.decode(far))["x"]
    assert free.min() < 0
    assert free.max() > 1
    found = model.decode(far, to="numpy")
    assert found.shape == (3, 4, 4, 1)
    assert found.min() == 0
    assert found.max() == 1
    with pytest.raises(DataError, match="to='pandas' is for vectors and tables"):
        image_model.reconstruct(pixels, to="pandas")


@pytest.mark.parametrize("latent", ["continuous(dim=2)", "vq(codes=4)", "gaussian(dim=2)"])
def test_codes_as_arrays_decode_as_codes(latent):
    data = Arrays(RNG.random((20, 4, 4, 1), dtype=np.float32))
    model = build(
        data, "vit(patch=2, width=8, depth=1, heads=2)", latent, "vit(patch=2, width=8, depth=1, heads=2)"
    ).eval()
    batch = data.batch(range(3))
    expected = model.to_batch(model.decode(model.encode(batch)))["x"].clamp(0, 1)
    for to in ("numpy", "torch"):
        codes = model.encode(batch, to=to)
        assert ("vq" in latent) == (np.asarray(codes["code"]).dtype == np.int64)
        torch.testing.assert_close(model.decode(codes, to="torch"), expected)
        torch.testing.assert_close(model.decode(codes["code"], to="torch"), expected)
    torch.testing.assert_close(model.reconstruct(batch), expected)


def test_vectors_decode_as_one_token(table_model):
    vectors = table_model.represent(FRAME, to="pandas")
    pd.testing.assert_frame_equal(
        table_model.decode(vectors, to="pandas"), table_model.reconstruct(FRAME, to="pandas")
    )


def test_wrong_codes_and_forms(table_model, image_model):
    with pytest.raises(DataError, match=r"code of code is \(b n 2\), or \(b 2\) for one token, not \(3, 5\)"):
        table_model.decode(np.zeros((3, 5), np.float32))
    with pytest.raises(DataError, match="code of code is real"):
        table_model.decode(np.zeros((3, 1, 1), np.int64))
    with pytest.raises(DataError, match="an array of numbers or Codes, not str"):
        table_model.decode("codes")
    with pytest.raises(DataError, match=r"4 tokens \(2 x 2\), not 3"):
        image_model.decode(np.zeros((1, 3, 2), np.float32))
    with pytest.raises(PartArgumentError, match="no to='nump'. Did you mean 'numpy'"):
        table_model.represent(FRAME, to="nump")
    with pytest.raises(PartArgumentError, match=r"represent\(data, to='pandas'\)"):
        table_model.encode(FRAME, to="pandas")
    two = rk.build(
        data=Table(FRAME),
        factors={name: rk.factor("mlp(width=8)", "continuous(dim=2)") for name in "ab"},
        decoder="mlp(width=8)",
    )
    with pytest.raises(BuildError, match="2 factors, a, b: give an array for each"):
        two.decode(np.zeros((1, 2), np.float32))


def test_lists_rows_and_files_are_encoded(table_model, image_model, tmp_path):
    expected = table_model.represent(FRAME, to="numpy")
    row = FRAME.iloc[3].to_dict()
    np.testing.assert_allclose(table_model.represent(row, to="numpy"), expected[3:4], rtol=1e-5, atol=1e-6)
    rows = FRAME.iloc[:3].to_dict("records")
    np.testing.assert_allclose(table_model.represent(rows, to="numpy"), expected[:3], rtol=1e-5, atol=1e-6)
    FRAME.to_csv(tmp_path / "new.csv", index=False)
    found = table_model.represent(tmp_path / "new.csv", to="numpy")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    pixels = RNG.random((3, 4, 4, 1), dtype=np.float32)
    np.save(tmp_path / "x.npy", pixels)
    expected = image_model.represent(pixels, to="numpy")
    for source in (
        list(pixels),
        [torch.tensor(each) for each in pixels],
        [{"x": each} for each in pixels],
        str(tmp_path / "x.npy"),
    ):
        np.testing.assert_array_equal(image_model.represent(source, to="numpy"), expected)
    with pytest.raises(DataError, match="examples of x .* have different shapes"):
        image_model.encode([pixels[0], pixels[0][:2]])
    with pytest.raises(DataError, match="a whole data set .*rk.embed"):
        image_model.encode(Arrays(pixels))


def test_lists_of_different_lengths_are_padded():
    data = Arrays([RNG.normal(size=(n, 2)).astype(np.float32) for n in (3, 5)])
    model = build(data, encoder="gru(width=8)", decoder="gru(width=8)").eval()
    found = model.represent([data[1]["x"].numpy(), data[0]["x"][:3].numpy()], to="torch")
    with torch.no_grad():
        torch.testing.assert_close(found, model.represent(data.batch([1, 0])))
