import io
import json
import math

import datasets
import numpy as np
import pytest
import torch
from conformance import check_conformance
from hub_files import png, table

import reprkit as rk
from reprkit.data import Order, loader
from reprkit.data.formats.hub import Hub
from reprkit.data.formats.hub_stream import HubStream
from reprkit.errors import DataError, PartArgumentError


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    columns, made = table(24)
    made.to_parquet(tmp_path / "set" / "train.parquet")
    table(6, seed=1)[1].to_parquet(tmp_path / "set" / "test.parquet")
    return tmp_path / "set", columns


@pytest.mark.parametrize("memory", [True, False])
def test_every_feature_becomes_its_field(folder, monkeypatch, memory):
    if not memory:
        monkeypatch.setattr("reprkit.data.formats.hub.MEMORY", 0)
    path, columns = folder
    pick = [3, 0, 11]
    data = Hub(path, columns={"x": "image", "label": "label"}, size=(6, 5))
    check_conformance(data)
    assert (data._decoded is None) is not memory
    pixels = np.stack([pixels_of(columns["image"][i]) for i in pick]).astype(np.float32) / 255
    assert np.array_equal(data.batch(pick)["x"], pixels)
    assert data.batch(pick)["label"].tolist() == [0, 0, 2]
    assert data.describe()["classes"] == ["cat", "dog", "owl"]
    assert data.signature["label"].vocab == 3

    heard = Hub(path, columns={"x": "audio"})
    check_conformance(heard)
    assert heard.batch(pick)["x_mask"].sum(1).tolist() == [53, 50, 61]
    assert heard.lengths()["x"].tolist() == [*range(50, 74), *range(50, 56)]

    text = Hub(path, columns={"x": "text", "other": "vector"})
    check_conformance(text)
    assert bytes(text[7]["x"].tolist()).decode() == columns["text"][7]
    assert np.allclose(text[7]["other"], columns["vector"][7])

    steps = Hub(path, columns={"x": "steps", "number": "b"})
    check_conformance(steps)
    assert steps.signature["x"].shape == (None, 2)
    assert np.allclose(steps[5]["x"], columns["steps"][5])
    assert steps.signature["number"].vocab == 24

    numbers = Hub(path, columns={"x": ["b", "a"], "y": "a"})
    check_conformance(numbers)
    assert np.allclose(numbers.batch(pick)["x"], [[i, columns["a"][i]] for i in pick])
    assert numbers.signature["y"].shape == (1,)


def pixels_of(value):
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(value["bytes"])))


def test_gray_and_resized(folder):
    data = Hub(folder[0], columns={"x": "image"}, size=(4, 4, 1))
    assert data.signature["x"].shape == (4, 4, 1)
    with pytest.raises(DataError, match=r"size=\(h, w\)"):
        Hub(folder[0], columns={"x": "image"})
    with pytest.raises(PartArgumentError, match="1 or 3"):
        Hub(folder[0], columns={"x": "image"}, size=(4, 4, 2))


def test_split_returns_the_official_parts(folder, tmp_path):
    path, _ = folder
    data = rk.dataset(f"hub(path={str(path)!r}, columns={{'x': 'vector', 'label': 'label'}})")
    check_conformance(data)
    assert len(data) == 30
    train, test = data.split(seed=5)
    assert (len(train), len(test)) == (24, 6)
    assert (train.name, test.name) == ("set (train)", "set (test)")
    assert np.allclose(test.batch(range(6))["x"], table(6, seed=1)[0]["vector"])
    train, valid, test = data.split(seed=5, valid=True, valid_share=0.25)
    assert (len(train), len(valid), len(test)) == (18, 6, 6)
    assert sorted(train.indices.tolist() + valid.indices.tolist()) == list(range(24))
    table(4)[1].to_parquet(path / "validation.parquet")
    again = Hub(path, columns={"x": "vector"})
    check_conformance(again)
    assert [len(part) for part in again.split(valid=True)] == [24, 4, 6]
    assert [len(part) for part in again.split()] == [28, 6]
    alone = Hub(path, part="test", columns={"x": "vector"})
    assert [len(part) for part in alone.split(test_share=0.5)] == [3, 3]
    with pytest.raises(DataError, match=r"no part 'tset'. Did you mean 'test'"):
        Hub(path, part="tset", columns={"x": "vector"})


def test_files_of_other_formats(tmp_path):
    (tmp_path / "a.csv").write_text(
        "height,width,label\n" + "".join(f"{i},{i / 2},{'uv'[i % 2]}\n" for i in range(9))
    )
    data = Hub(tmp_path / "a.csv", columns={"x": ["height", "width"], "label": "label"})
    check_conformance(data)
    assert data.batch([2])["x"].tolist() == [[2.0, 1.0]]
    assert (data.describe()["classes"], data.batch(range(3))["label"].tolist()) == (["u", "v"], [0, 1, 0])
    assert [len(part) for part in data.split()] == [7, 2]
    (tmp_path / "b.jsonl").write_text(
        "".join(json.dumps({"text": f"line {i}", "label": i % 2 == 0}) + "\n" for i in range(9))
    )
    lines = Hub(tmp_path / "b.jsonl")
    assert bytes(lines[8]["x"].tolist()) == b"line 8"
    assert lines.describe()["classes"] == [False, True]
    kept = tmp_path / "disk"
    table(5)[1].save_to_disk(kept)
    assert len(Hub(kept, columns={"x": "vector"})) == 5


def test_unreadable_rows_are_skipped_and_named(tmp_path):
    columns, made = table(12)
    images = [dict(each) for each in columns["image"]]
    images[4] = {"bytes": b"no picture", "path": None}
    images[7] = None
    rows = {"image": images, "label": [i % 3 if i != 9 else None for i in range(12)]}
    features = datasets.Features({"image": made.features["image"], "label": made.features["label"]})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"(?s)only 9 of the 12 rows.*row 4: .*row 7: .*missing.*row 9"):
        Hub(tmp_path / "a.parquet", size=5)
    data = Hub(tmp_path / "a.parquet", size=5, max_corrupt=0.3)
    assert len(data) == 9
    assert data.batch(range(9))["label"].tolist() == [i % 3 for i in range(12) if i not in (4, 7, 9)]
    assert data.describe()["skipped_count"] == 3
    assert [each["name"] for each in data.describe()["skipped"]] == ["row 4", "row 7", "row 9"]


def test_official_parts_without_their_unreadable_rows(tmp_path):
    for part, texts in (("train", ["a", "", "b", "c"]), ("test", ["", "d"])):
        lines = "".join(json.dumps({"text": each}) + "\n" for each in texts)
        (tmp_path / f"{part}.jsonl").write_text(lines)
    train, test = Hub(tmp_path, max_corrupt=0.5).split()
    assert [bytes(each["x"].tolist()).decode() for part in (train, test) for each in part] == [
        "a",
        "b",
        "c",
        "d",
    ]
    assert len(test) == 1


def test_workers_give_the_same_batches(folder, monkeypatch):
    monkeypatch.setattr("reprkit.data.formats.hub.MEMORY", 0)
    data = Hub(folder[0], columns={"x": "image", "text": "text"}, size=4)
    order = Order(len(data), 8, seed=1)
    here, ahead = (list(loader(data, order, workers=workers, stop=4)) for workers in (0, 2))
    for one, two in zip(here, ahead, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_invalid_arguments_raise(folder, tmp_path):
    path, _ = folder
    with pytest.raises(DataError, match=r"(?s)which column of set is x.*'image' \(Image\)"):
        Hub(path)
    with pytest.raises(DataError, match=r"no column 'imaeg' for field 'x'. Did you mean 'image'"):
        Hub(path, columns={"x": "imaeg"})
    with pytest.raises(DataError, match="several columns form one vector"):
        HubStream(path, columns={"x": ["a", "text"]})
    with pytest.raises(DataError, match=r"categories: 'b' is none of the columns"):
        Hub(path, columns={"x": ["a", "text"]}, categories=["b"])
    with pytest.raises(DataError, match="columns of a table are numbers"):
        Hub(path, columns={"x": ["a", "vector"]})
    with pytest.raises(DataError, match="no file or folder"):
        Hub(tmp_path / "nowhere.parquet")
    (tmp_path / "a.xyz").write_text("1")
    with pytest.raises(DataError, match="unknown format"):
        Hub(tmp_path / "a.xyz")
    (tmp_path / "broken.parquet").write_text("this is no Parquet")
    with pytest.raises(DataError, match="cannot be read by datasets"):
        Hub(tmp_path / "broken.parquet")
    with pytest.raises(
        DataError, match="(?s)no folder someone/something here, and the hub cannot be reached.*HF_HUB_OFFLINE"
    ):
        Hub("someone/something")
    with pytest.raises(DataError, match="Available"):
        Hub(path, "other", columns={"x": "a"})
    nested = datasets.Dataset.from_dict({"x": [{"u": 1, "v": "w"}] * 3})
    nested.to_parquet(tmp_path / "nested.parquet")
    with pytest.raises(DataError, match="(?s)column 'x' is .*cannot read as a field"):
        Hub(tmp_path / "nested.parquet")
    ragged = datasets.Dataset.from_dict({"x": [[1.0, 2.0]] * 5 + [[1.0]] * 4})
    ragged.to_parquet(tmp_path / "ragged.parquet")
    with pytest.raises(DataError, match="column 'x' has 1 numbers, not 2"):
        Hub(tmp_path / "ragged.parquet")


def test_deleted_file_is_named(tmp_path):
    (tmp_path / "pictures" / "train" / "a").mkdir(parents=True)
    for number in range(4):
        file = tmp_path / "pictures" / "train" / "a" / f"{number}.png"
        file.write_bytes(png(np.full((4, 4, 3), number, np.uint8))["bytes"])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("reprkit.data.formats.hub.MEMORY", 0)
        data = Hub(tmp_path / "pictures", columns={"x": "image"}, size=4)
        assert torch.equal(data[2]["x"], torch.full((4, 4, 3), 2 / 255))
        file.unlink()
        with pytest.raises(DataError, match="row 3 of pictures .* no longer is"):
            data.batch([3])


TABLE = """age,trade,rooms,height,label
40,cook,2,1.5,a
50,smith,3,,b
,cook,,1.7,a
60,,2,1.9,b
,,,,a
30,tailor,4,1.6,b
"""


def test_several_columns_are_a_table(tmp_path):
    (tmp_path / "a.csv").write_text(TABLE)
    names = ["age", "trade", "rooms", "height"]
    data = Hub(
        tmp_path / "a.csv", columns={"x": names, "label": "label"}, categories=["rooms"], max_corrupt=0.2
    )
    assert len(data) == 5
    assert data.facts["skipped_count"] == 1
    age, trade, rooms, height = data.signature["x"].columns
    assert (age.name, age.kind, age.mean) == ("age", "number", 45.0)
    assert age.std == pytest.approx(math.sqrt(125))
    assert (trade.kind, trade.classes) == ("category", ("cook", "smith", "tailor"))
    assert rooms.classes == ("2", "3", "4")
    assert height.mean == pytest.approx(1.675)
    batch = data.batch(range(5))
    rows = [
        [40, 1, 0, 0, 1, 0, 0, 1.5],
        [50, 0, 1, 0, 0, 1, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 1.7],
        [60, 0, 0, 0, 1, 0, 0, 1.9],
        [30, 0, 0, 1, 0, 0, 1, 1.6],
    ]
    torch.testing.assert_close(batch["x"], torch.tensor(rows))
    missing = [(1, [7]), (2, [0, 4, 5, 6]), (3, [1, 2, 3])]
    expected = torch.ones(5, 8, dtype=torch.bool)
    for row, places in missing:
        expected[row, places] = False
    assert torch.equal(batch["x_mask"], expected)
    check_conformance(data)
    model = rk.build(data=data, encoder="mlp(width=8)", decoder="mlp(width=8)")
    assert rk.fit(model, data, steps=3, batch=4).model.output_field.columns[1].classes == trade.classes


def test_a_table_without_missing_values_has_no_mask(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2.5\n2,3.5\n4,4.5\n")
    data = Hub(tmp_path / "a.csv", columns={"x": ["a", "b"]})
    assert set(data.batch([0])) == {"x"}
    assert [column.name for column in data.signature["x"].columns] == ["a", "b"]
    assert data.signature["x"].likelihood == "gaussian"


def test_parts_follow_from_a_group(tmp_path):
    def parts(first):
        rows = {
            "x": [[float(n), 1.0] for n in range(first, 60)],
            "patient": [n // 2 for n in range(first, 60)],
        }
        datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
        data = Hub(tmp_path / "a.parquet", columns={"x": "x"}, group="patient")
        return [
            {int(value) // 2 for value in part.batch(range(len(part)))["x"][:, 0]} for part in data.split(3)
        ]

    before = parts(0)
    assert sum(map(len, before)) == 30
    assert [part - {0} for part in before] == parts(2)
    with pytest.raises(DataError, match="no column 'patent' for group=.*patient"):
        Hub(tmp_path / "a.parquet", columns={"x": "x"}, group="patent")
