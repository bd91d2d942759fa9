import io
import json
import tarfile
from itertools import chain

import numpy as np
import pytest
import torch
from conformance import check_conformance
from hub_files import png, wav

import reprkit as rk
from reprkit.data import Arrays, TarStream, loader, write_shards
from reprkit.data.formats import tar_index
from reprkit.data.formats.tar_index import read_index, split_name
from reprkit.errors import DataError
from reprkit.testing.pool import together


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_tar(path, records, first=0):
    """Write records (dicts of suffix -> bytes) under the names 000000.SUFFIX and so on."""
    with tarfile.open(path, "w") as tar:
        for number, record in enumerate(records, first):
            for suffix, content in record.items():
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def records():
    generator = np.random.default_rng(0)
    return [
        {
            "jpg" if i % 2 else "png": png(generator.integers(0, 256, (6, 5, 3), dtype=np.uint8))["bytes"],
            "wav": wav(generator.uniform(-1, 1, 50 + i).astype(np.float32))["bytes"],
            "cls": str(i % 3).encode(),
            "txt": f"text number {i}".encode(),
            "json": json.dumps({"caption": f"caption {i}", "point": [i, 0.5], "kind": "ab"[i % 2]}).encode(),
            "x.npy": npy(np.full(4, i, np.float32)),
            "tokens.npy": npy(np.arange(1 + i % 4)),
        }
        for i in range(100)
    ]


@pytest.fixture
def folder(tmp_path, records):
    (tmp_path / "set").mkdir()
    for shard, (first, last) in enumerate([(0, 41), (41, 48), (48, 100)]):
        write_tar(tmp_path / "set" / f"train-{shard:03d}.tar", records[first:last], first)
    return tmp_path / "set"


ALL = {
    "x": "x.npy", "image": "jpg;png", "sound": "wav", "label": "cls", "text": "txt", "caption": "json.caption",
    "point": "json.point", "kind": "json.kind", "tokens": "tokens.npy",
}  # fmt: skip


def test_fields_by_suffix(folder, records):
    data = TarStream(folder, columns=ALL, size=4, vocabs={"tokens": 4}, classes={"kind": ["b", "a"]})
    assert {name: (field.kind, field.shape, field.vocab) for name, field in data.signature.items()} == {
        "x": ("vector", (4,), None),
        "image": ("image", (4, 4, 3), None),
        "sound": ("sequence", (None, 1), None),
        "label": ("label", (), 3),
        "text": ("tokens", (None,), 256),
        "caption": ("tokens", (None,), 256),
        "point": ("vector", (2,), None),
        "kind": ("label", (), 2),
        "tokens": ("tokens", (None,), 4),
    }
    examples = list(data)
    assert len(examples) == 100
    for i in (0, 40, 41, 99):
        example = examples[i]
        assert example["x"].tolist() == [i] * 4
        assert int(example["label"]) == i % 3
        assert bytes(example["text"].tolist()) == f"text number {i}".encode()
        assert bytes(example["caption"].tolist()) == f"caption {i}".encode()
        assert example["point"].tolist() == [i, 0.5]
        assert int(example["kind"]) == (i + 1) % 2
        assert example["tokens"].tolist() == list(range(1 + i % 4))
        assert len(example["sound"]) == 50 + i
        stored = rk.data.formats.image_files.read_image(
            io.BytesIO(records[i]["jpg" if i % 2 else "png"]), (4, 4)
        )
        assert torch.equal(example["image"], torch.from_numpy(stored.copy()).float() / 255)


def test_stream_conforms(folder):
    check_conformance(TarStream(folder, columns={"x": "png;jpg", "label": "cls"}, size=4))
    check_conformance(TarStream(folder, columns={"x": "txt"}))


@pytest.mark.parametrize("path", ["{}", "{}/train-{{000..002}}.tar", "{}/train-*.tar", "{}/train-00?.tar"])
def test_paths_and_patterns(folder, path):
    data = rk.dataset(f"shards(path={path.format(folder)!r}, columns={{'x': 'x.npy'}})")
    assert [int(each["x"][0]) for each in data] == list(range(100))


def test_lists_and_single_files(folder):
    files = [str(folder / "train-002.tar"), folder / "train-001.tar"]
    data = TarStream(files, columns={"x": "x.npy"})
    assert [int(each["x"][0]) for each in data] == [*range(48, 100), *range(41, 48)]
    one = rk.dataset(str(folder / "train-001.tar"), columns={"x": "txt"})
    assert isinstance(one, TarStream)
    assert len(one.take(20)) == 7
    assert isinstance(rk.dataset(folder, columns={"x": "txt"}), TarStream)


def test_x_and_label_are_found(tmp_path, records):
    write_tar(
        tmp_path / "a.tar",
        [{k: v for k, v in each.items() if k in ("jpg", "png", "cls")} for each in records],
    )
    data = TarStream(tmp_path, size=4)
    assert {name: field.kind for name, field in data.signature.items()} == {"x": "image", "label": "label"}
    assert data.describe()["classes"] == [0, 1, 2]
    with pytest.raises(DataError, match=r"give size=\(h, w\)"):
        TarStream(tmp_path)


def test_ambiguous_and_unknown_fields_raise(folder, tmp_path):
    with pytest.raises(
        DataError, match="(?s)which files of set are x.*the first 100 records have:.*100 .wav"
    ):
        TarStream(folder)
    with pytest.raises(
        DataError,
        match="(?s)field 'x' cannot be read from most .* no file .jpeg.*they have the files: .cls, .jpg",
    ):
        TarStream(folder, columns={"x": "jpeg;webp"}, size=4)
    with pytest.raises(DataError, match="'pickle' names no files that can be read"):
        TarStream(folder, columns={"x": "pickle"})
    with pytest.raises(DataError, match="'json': say which value"):
        TarStream(folder, columns={"x": "json"})
    with pytest.raises(DataError, match="cannot know how many symbols"):
        TarStream(folder, columns={"x": "tokens.npy"})
    with pytest.raises(DataError, match="vocabs= names 'y'"):
        TarStream(folder, columns={"x": "x.npy"}, vocabs={"y": 3})
    with pytest.raises(DataError, match="vocabs= names 'x', whose files 'wav' are of kind audio"):
        TarStream(folder, columns={"x": "wav"}, vocabs={"x": 3})
    with pytest.raises(DataError, match="classes= names 'x', whose files 'x.npy' are of kind array"):
        TarStream(folder, columns={"x": "x.npy"}, classes={"x": [0, 1]})
    for path, message in (
        (folder / "train-9.tar", "no file"),
        (f"{folder}/train-{{000..003}}.tar", "no file .*train-003.tar"),
        (f"{folder}/test-*.tar", "no file matches"),
        (f"{folder}/train-{{3..1}}.tar", "is empty"),
        ([folder, f"{folder}/train-001.tar"], "named twice"),
        ([], "empty list"),
    ):
        with pytest.raises(DataError, match=message):
            TarStream(path, columns={"x": "txt"})
    (tmp_path / "gz").mkdir()
    (tmp_path / "gz" / "a.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match="(?s)a.tar.gz: it is compressed.*decompress"):
        TarStream(tmp_path / "gz")
    with pytest.raises(DataError, match="compressed"):
        TarStream(tmp_path / "gz" / "a.tar.gz")
    write_tar(tmp_path / "twice.tar", [])
    with tarfile.open(tmp_path / "twice.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(DataError, match="two files a.txt"):
        TarStream(tmp_path / "twice.tar")
    write_tar(tmp_path / "none.tar", [])
    with pytest.raises(DataError, match="has no records"):
        TarStream(tmp_path / "none.tar")


def test_names_of_members():
    assert split_name("a/b.c/0001.seg.PNG") == ("a/b.c/0001", "seg.png")
    assert split_name("0001.cls") == ("0001", "cls")
    for name in ("._0001.jpg", "README", "a/.hidden", "__index__.json"):
        assert split_name(name)[1] is None


def test_index_is_that_of_tarfile_and_is_cached(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    paths = sorted(folder.glob("*.tar"))
    index = read_index(paths)
    assert not (tmp_path / "cache").exists(), "what is quickly made again is not stored"
    members = []
    for path in paths:
        with tarfile.open(path) as tar:
            members += [(each.offset_data, each.size, each.name.partition(".")[2]) for each in tar]
    found = zip(index.offsets.tolist(), index.lengths.tolist(), index.suffixes.tolist(), strict=True)
    assert [(offset, length, index.names[suffix]) for offset, length, suffix in found] == members
    assert index.sizes.tolist() == [41, 7, 52]
    assert index.records.tolist() == list(range(0, 701, 7))
    monkeypatch.setattr(tar_index, "_SLOW", -1)
    read_index(paths)
    monkeypatch.setattr(tar_index, "_scan", None)  # must not be needed again
    again = read_index(paths)
    for name in ("offsets", "lengths", "suffixes", "records", "sizes", "lost"):
        assert np.array_equal(getattr(again, name), getattr(index, name))
    assert (again.names, again.damages, again.ignored) == (index.names, [], 0)
    next((tmp_path / "cache" / "shards").glob("*.npz")).write_bytes(b"damaged")
    with pytest.raises(TypeError):
        read_index(paths)


def test_a_truncated_or_damaged_file_has_the_records_before_it(folder):
    last = folder / "train-002.tar"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(
        DataError, match=r"(?s)1 of the 3 tar files of set are truncated.*train-002.tar: truncated in"
    ):
        TarStream(folder, columns={"x": "x.npy"})
    with pytest.warns(UserWarning, match="(?s)1 of the 3 tar files of set are truncated or damaged"):
        data = TarStream(folder, columns={"x": "x.npy"}, max_corrupt=0.5)
    seen = [int(each["x"][0]) for each in data]
    assert seen == list(range(len(seen)))
    assert 60 <= len(seen) <= 68
    assert data.describe()["skipped"][0]["name"] == "train-002.tar"
    assert "unreadable: 1" in data.summary()
    place = whole.index(b"000060.txt")
    last.write_bytes(whole[:place] + b"\xff" * 400 + whole[place + 400 :])
    with pytest.warns(UserWarning, match="damaged at byte"):
        data = TarStream(folder, columns={"x": "x.npy"}, max_corrupt=0.5)
    assert len(list(data.read())) == 61
    last.write_bytes(whole)
    with tarfile.open(last) as tar:
        end = max(each.offset_data + -(-each.size // 512) * 512 for each in tar)
    last.write_bytes(whole[:end])
    with pytest.warns(UserWarning, match="it has no end"):
        assert len(list(TarStream(folder, columns={"x": "x.npy"}))) == 100
    last.write_bytes(b"no tar file at all" * 1000)
    with pytest.raises(DataError, match="train-002.tar: ReadError"):
        TarStream(folder, columns={"x": "x.npy"})


def test_unreadable_records_are_replaced_and_name_their_place(tmp_path):
    records = [{"x.npy": npy(np.full(2, i, np.float32))} for i in range(40)]
    records[7] = {"x.npy": b"no array"}
    records[30] = {"other": b"x.npy is missing"}
    write_tar(tmp_path / "a.tar", records)
    data = TarStream(tmp_path, columns={"x": "x.npy"}, buffer=1, readers=1)
    with pytest.warns(UserWarning, match=r"record 7 of .* is skipped: a.tar, byte [\d,]+: ValueError"):
        made = [batch["x"][:, 0].int().tolist() for batch in loader(data, data.order(10), stop=4)]
    assert made == [
        [0, 1, 2, 3, 4, 5, 6, 8, 8, 9],
        list(range(10, 20)),
        list(range(20, 30)),
        [31, *range(31, 40)],
    ]
    told = data.describe()
    assert told["skipped_count"] == 2
    assert "it has no file .x.npy" in told["skipped"][1]["why"]


def test_a_file_that_is_replaced_while_it_is_read_is_reported(folder):
    data = TarStream(folder, columns={"x": "x.npy"}, max_corrupt=0.0)
    (folder / "train-002.tar").write_bytes((folder / "train-002.tar").read_bytes()[:5000])
    with (
        pytest.warns(UserWarning, match="has changed since the data set was constructed"),
        pytest.raises(
            DataError, match=r"record \d+ of set and the records after it in its batch cannot be read"
        ),
    ):
        list(loader(data, data.order(10), stop=10))


def test_every_process_reads_its_part_of_the_bytes_only(folder, monkeypatch):
    read = []
    content = rk.data.formats.tar_shards.TarShards.content
    monkeypatch.setattr(
        rk.data.formats.tar_shards.TarShards,
        "content",
        lambda self, reference, wanted: read.append(reference) or content(self, reference, wanted),
    )
    data = TarStream(folder, columns={"x": "x.npy"})
    parts = []
    for rank in range(4):
        read.clear()
        list(loader(data, data.order(20, 1, ranks=4, rank=rank), stop=5))
        parts.append(list(read))
    assert [len(part) for part in parts] == [25] * 4
    assert len(set(chain(*parts))) == 100
    read.clear()
    list(loader(data, data.order(20, 1), 3, stop=5))  # a resumed run
    assert len(read) == 40


def test_open_files_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(rk.data.formats.tar_shards, "_OPEN", 2)
    for i in range(6):
        write_tar(tmp_path / f"{i}.tar", [{"x.npy": npy(np.full(1, i, np.float32))}] * 1)
    data = TarStream(tmp_path)
    assert [int(each["x"]) for each in data] == list(range(6))
    assert len(data.shards()._files) == 2


def test_any_data_set_is_written_and_read_the_same(tmp_path):
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 9, 30)
    data = Arrays(
        {
            "x": generator.integers(0, 256, (30, 4, 5, 3), dtype=np.uint8),
            "real": generator.standard_normal((30, 3)).astype(np.float32),
            "frames": [generator.standard_normal((n, 2)).astype(np.float32) for n in lengths],
            "tokens": [generator.integers(0, 11, n) for n in lengths],
            "label": generator.integers(0, 3, 30),
        },
        kinds={"tokens": "tokens"},
    )
    files = write_shards(data, tmp_path / "out", records=12)
    assert [file.name for file in files] == ["shard-000000.tar", "shard-000001.tar", "shard-000002.tar"]
    again = rk.dataset(tmp_path / "out")
    assert again.signature == data.signature
    for one, two in zip(again, data, strict=True):
        assert {name: value for name, value in one.items() if not torch.equal(value, two[name])} == {}
    with tarfile.open(files[0]) as tar:
        sizes = {each.name: each.size for each in tar}
    assert sizes["000000000.x.npy"] == 128 + 60, "256 levels are one byte each"
    assert "ignored" not in again.describe()
    with pytest.raises(DataError, match="holds tar files or .*: choose a new folder"):
        write_shards(data, tmp_path / "out")
    with pytest.raises(DataError, match="records is a number from 1"):
        write_shards(data, tmp_path / "other", records=0)
    (tmp_path / "out" / "reprkit-signature.json").write_text('{"x": 3}')
    with pytest.raises(DataError, match="reprkit-signature.json' describes no fields"):
        rk.dataset(tmp_path / "out")


def test_missing_values_and_names_of_classes_are_written(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(
        {"a": [1.0, None, 3.0] * 10, "b": ["u", "v", None] * 10, "label": ["p", "q", "r"] * 10}
    )
    data = rk.dataset(frame)
    write_shards(data, tmp_path)
    again = TarStream(tmp_path)
    assert again.signature == data.signature
    assert again.signature["label"].classes == data.signature["label"].classes
    assert again.describe()["classes"] == ["p", "q", "r"]
    for one, two in zip(again, data, strict=True):
        assert {name for name, value in one.items() if torch.equal(value, two[name])} == set(two)


# ------------------------------------------------------------------ training


def train(rank, path, out=None, steps=12, until=None, column="x.npy", **options):
    """Train on vectors or texts; return the weights and the batches."""
    torch.set_num_threads(1)
    data = TarStream(path, columns={"x": column, "label": "cls"}, buffer=20).split()[0]
    torch.manual_seed(0)
    parts = (
        {"encoder": "mlp(widths=(8,))", "decoder": "mlp(widths=(8,))"}
        if column == "x.npy"
        else {
            "encoder": "transformer(width=8, depth=1, heads=1)",
            "decoder": "transformer(width=8, depth=1, heads=1)",
        }
    )
    model = rk.build(data=data, latent="gaussian(dim=2)", **parts)
    seen, given = [], {"batch": 16, "device": "cpu", "out": out, "save_every": 1e-6, **options}
    for step in rk.loop(model, data, steps=steps, **given):
        seen.append(step.batch["x"].clone())
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.index == until:
            break
    return model.state_dict(), seen


def resume(rank, path, out, column):
    return train(rank, path, out, column=column, resume=True)


@pytest.mark.slow
def test_resumed_run_is_identical(folder, tmp_path):
    whole, seen = train(0, folder)
    for until, workers in ((2, 0), (8, 2)):  # in the first epoch of four or five steps, and in a later one
        out = tmp_path / f"run{until}"
        train(0, folder, out, until=until)
        ahead, rest = train(0, folder, out, resume=True, workers=workers)
        assert 0 < len(rest) < 12
        assert all(torch.equal(one, two) for one, two in zip(rest, seen[-len(rest) :], strict=True))
        assert all(torch.equal(ahead[name], value) for name, value in whole.items())


@pytest.mark.slow
@pytest.mark.ranks
@pytest.mark.parametrize("column", ["x.npy", "txt"])
def test_processes_train_like_one_and_resume_on_another_number(folder, tmp_path, column):
    alone, seen = train(0, folder, column=column)
    out = tmp_path / "run"
    together(2, train, folder, out, 12, 5, column)
    found = together(4, resume, folder, out, column)
    for state, _ in found if column == "x.npy" else ():  # the bias of keys has gradients of rounding alone
        for name, value in alone.items():
            torch.testing.assert_close(state[name], value, rtol=0, atol=2e-5)
    rest = len(found[0][1])
    assert 0 < rest < 12
    for step in range(rest):
        joined = torch.cat([part[step] for _, part in found])  # also of one length, where lengths vary
        assert torch.equal(joined, seen[12 - rest + step])
