"""``rk.embed`` and the inputs of ``encode``: equal to batches of the data set, resumable, refused where they do not fit."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import reprkit as rk
from reprkit.data.formats.arrays import Arrays
from reprkit.data.formats.table import Table
from reprkit.errors import DataError, PartArgumentError

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {"a": RNG.normal(50, 9, 30), "b": RNG.choice(["u", "v", "w"], 30), "label": RNG.choice(["no", "yes"], 30)}
)
FRAME.loc[3, "a"] = None


def small(data, **parts):
    return rk.build(
        data=data, encoder="mlp(width=8)", latent="continuous(dim=3)", decoder="mlp(width=8)", **parts
    )


@pytest.fixture(scope="module")
def table_model():
    return small(Table(FRAME))


@pytest.fixture(scope="module")
def image_model():
    pixels = RNG.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
    return small(Arrays(pixels)), pixels


def test_vectors_are_those_of_the_batches(table_model):
    data = Table(FRAME)
    with torch.no_grad():
        wanted = table_model.represent(data.batch(range(30)))
    found = rk.embed(table_model, data, batch=7)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5, atol=1e-6)
    assert torch.equal(rk.embed(table_model, data, to="torch", batch=7), torch.from_numpy(found))
    frame = rk.embed(table_model, data, to="pandas", batch=7)
    assert list(frame) == ["0", "1", "2", "label"]
    assert frame["label"].tolist() == FRAME["label"].tolist()


def test_mode_and_random_state_are_restored(table_model):
    for mode in (True, False):
        table_model.train(mode)
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        rk.embed(table_model, FRAME)
        assert table_model.training is mode
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (np.random.get_state()[1] == before[1]).all()


@pytest.mark.parametrize("source", ["frame", "other order", "csv", "array"])
def test_tables_of_every_form(table_model, tmp_path, source):
    wanted = rk.embed(table_model, Table(FRAME))
    if source == "array":
        data, rows = Table(FRAME).batch(range(30))["x"].double().numpy(), np.arange(30) != 3
    else:
        FRAME.to_csv(tmp_path / "rows.csv", index=False)
        other = FRAME[["label", "b", "a"]].assign(name=[f"n{index}" for index in range(30)])
        data = {"frame": FRAME, "other order": other, "csv": tmp_path / "rows.csv"}[source]
        rows = slice(None)
    np.testing.assert_allclose(rk.embed(table_model, data)[rows], wanted[rows], rtol=1e-5, atol=1e-6)
    if source != "csv":
        with torch.no_grad():
            found = table_model.represent(data).numpy()
        np.testing.assert_allclose(found[rows], wanted[rows], rtol=1e-5, atol=1e-6)


def test_pictures_of_every_form(image_model, tmp_path):
    model, pixels = image_model
    wanted = rk.embed(model, Arrays(pixels))
    images = [Image.fromarray(each) for each in pixels]
    for index, image in enumerate(images):
        image.save(tmp_path / f"{index:02d}.png")
    files = sorted(tmp_path.glob("*.png"))
    for source in (
        pixels,
        torch.from_numpy(pixels),
        pixels / 255.0,
        images,
        files,
        [str(file) for file in files],
    ):
        np.testing.assert_allclose(rk.embed(model, source), wanted, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(model.represent(images[0]).numpy(), wanted[:1], rtol=1e-5, atol=1e-6)
        large = model.represent(images[0].resize((50, 60), Image.Resampling.NEAREST))
    assert large.shape == (1, 3)


def test_wrong_inputs(table_model, image_model):
    model, pixels = image_model
    for source, text in (
        ("nowhere.png", "no file of this name exists.*\n.*a picture of PIL, a file name"),
        ([1, 2], "a list of int is no input of x"),
        (pixels[0], "single example without the batch axis"),
        (FRAME, "the model did not learn a table"),
    ):
        with pytest.raises(DataError, match=text):
            model.encode(source)
    for frame, text in (
        (FRAME.drop(columns="b"), "no column 'b'"),
        (FRAME.assign(b="x"), r"classes that the model did not learn, in 'b' \(30 rows\)"),
        (FRAME.assign(a="many"), "'a' holds 'many' in row 0, which is not a number"),
    ):
        with pytest.raises(DataError, match=text):
            table_model.encode(frame)
    with pytest.raises(PartArgumentError, match="no to='pandsa'. Did you mean 'pandas'"):
        rk.embed(model, pixels, to="pandsa")


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".parquet"])
def test_files(table_model, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / f"codes{suffix}"
    wanted = rk.embed(table_model, FRAME, out=out, batch=8)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    if suffix == ".npy":
        found = np.load(out)
    else:
        frame = {".csv": pd.read_csv, ".parquet": pd.read_parquet}[suffix](out)
        assert frame["label"].tolist() == FRAME["label"].tolist()
        found = frame[["0", "1", "2"]].to_numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    with pytest.raises(DataError, match="exists already.*overwrite=True"):
        rk.embed(table_model, FRAME, out=out)
    rk.embed(table_model, FRAME[:5], out=out, overwrite=True)


def test_an_interrupted_call_continues_with_the_next_batch(tmp_path, monkeypatch):
    model = small(Table(FRAME), objective="reconstruction")
    wanted = rk.embed(model, FRAME, batch=8)
    real, calls = type(model).represent, []

    def failing(self, *args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *args, **options)

    monkeypatch.setattr(type(model), "represent", failing)
    with pytest.raises(KeyboardInterrupt):
        rk.embed(model, FRAME, out=tmp_path / "c.npy", batch=8)
    with pytest.raises(DataError, match="unfinished embedding of another model, data or settings"):
        rk.embed(model, FRAME, out=tmp_path / "c.npy", batch=9)
    calls.clear()
    monkeypatch.setattr(type(model), "represent", lambda *a, **k: calls.append(1) or real(*a, **k))
    found = rk.embed(model, FRAME, out=tmp_path / "c.npy", batch=8)
    assert len(calls) == 2
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(np.load(tmp_path / "c.npy"), wanted)


def test_new_tables_with_unknown_classes_or_empty_rows_are_refused(table_model):
    with pytest.raises(DataError, match=r"classes that the model did not learn, in 'b' \(30 rows\)"):
        rk.embed(table_model, FRAME.assign(a=1.0, b="x"))
    empty = FRAME[["a", "b"]].copy()
    empty.loc[5] = None
    with pytest.raises(DataError, match="1 rows of the table have no value"):
        rk.embed(table_model, empty)


def test_a_label_field_may_have_any_name(tmp_path):
    names = ("file", "x2", "vectors")
    fields = {name: rk.Field(kind="label", shape=(), vocab=6) for name in names}
    signature = rk.data.Signature({"x": rk.Field(kind="vector", shape=(4,)), **fields})
    data = rk.data.Tensors({"x": torch.rand(6, 4), **dict.fromkeys(names, torch.arange(6))}, signature)
    frame = rk.embed(small(data), data, to="pandas", out=tmp_path / "c.csv", batch=4)
    assert list(frame) == ["0", "1", "2", *names]
    assert pd.read_csv(tmp_path / "c.csv")["file"].tolist() == list(range(6))
