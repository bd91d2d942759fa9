from itertools import chain

import datasets
import numpy as np
import pytest
import torch
from conformance import check_conformance
from hub_files import table

import reprkit as rk
from reprkit.data import HubStream, loader
from reprkit.data.formats.table_shards import TableShards
from reprkit.errors import DataError, PartArgumentError
from reprkit.runs.reader import read_record
from reprkit.testing.pool import together


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    table(90)[1].to_parquet(tmp_path / "set" / "train.parquet")
    return tmp_path / "set"


def test_stream_equals_the_stored_data_set(folder):
    path = folder
    chosen = {"x": "image", "label": "label", "text": "text", "audio": "audio", "number": ["a", "b"]}
    stored = rk.data.Hub(path, columns=chosen, size=4)
    data = rk.dataset(f"hub-stream(path={str(path)!r}, columns={chosen!r}, size=4, buffer=20)")
    assert isinstance(data, HubStream)
    whole = stored.signature.to_json()
    assert [column["name"] for column in whole["number"].pop("columns")] == ["a", "b"]
    assert data.signature.to_json() == whole, "a stream does not know the columns' scales in advance"
    for index, example in enumerate(data):
        assert all(torch.equal(example[name], value) for name, value in stored[index].items())
    order = data.order(16, seed=1)
    for step, batch in enumerate(loader(data, order, stop=7)):
        same = stored.batch(order.global_batch(step))
        assert all(torch.equal(batch[name], value) for name, value in same.items())
    assert data.describe()["classes"] == ["cat", "dog", "owl"]


@pytest.mark.parametrize("chosen", [{"x": "image", "label": "label"}, {"x": "text"}])
def test_stream_conforms(folder, chosen):
    check_conformance(HubStream(folder, columns=chosen, size=4))


def test_unusable_tables_raise(tmp_path, folder):
    (tmp_path / "a.jsonl").write_text('{"text": "u", "label": "v"}\n' * 5)
    with pytest.raises(
        DataError, match="(?s)cannot know in advance which classes field 'label' has.*ClassLabel"
    ):
        HubStream(tmp_path / "a.jsonl")
    assert len(list(HubStream(tmp_path / "a.jsonl", columns={"x": "text"}))) == 5
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(DataError):
        HubStream(tmp_path / "b.jsonl")
    with pytest.raises(DataError, match="hub cannot be reached"):
        HubStream("someone/something")
    with pytest.raises(PartArgumentError, match="buffer=0 must be"):
        HubStream(folder, columns={"x": "vector"}, buffer=0)


def train(rank, path, out=None, steps=14, until=None, **options):
    """Train on a stream of vectors and return the weights."""
    torch.set_num_threads(1)
    data = HubStream(path, columns={"x": "vector", "label": "label"}, buffer=20).split()[0]
    torch.manual_seed(0)
    model = rk.build(
        data=data, encoder="mlp(widths=(8,))", latent="gaussian(dim=2)", decoder="mlp(widths=(8,))"
    )
    seen = []
    given = {
        "batch": 16,
        "lr": 1e-2,
        "device": "cpu",
        "out": out,
        "log_every": 1,
        "save_every": 1e-6,
        **options,
    }
    for step in rk.loop(model, data, steps=steps, **given):
        seen.append(step.batch["x"].clone())
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.index == until:
            break
    return model.state_dict(), seen


def test_resumed_run_is_identical(folder, tmp_path):
    whole, seen = train(0, folder)
    for until in (2, 9):  # within the first epoch of four steps, and in the third
        out = tmp_path / f"run{until}"
        train(0, folder, out, until=until)
        ahead, rest = train(0, folder, out, resume=True, workers=2 if until == 9 else 0)
        assert 0 < len(rest) < 14
        assert all(torch.equal(one, two) for one, two in zip(rest, seen[-len(rest) :], strict=True))
        assert all(torch.equal(ahead[name], value) for name, value in whole.items())
    assert read_record(out)["data"]["stream"] is True


def parquet(folder, sizes, rows=10):
    """Write Parquet files of these sizes with row groups of ``rows`` rows; the rows count through them."""
    folder.mkdir()
    first = 0
    for number, size in enumerate(sizes):
        values = {"x": [[float(first + i), 0.0] for i in range(size)], "other": ["o"] * size}
        made = datasets.Dataset.from_dict(values)
        made.to_parquet(folder / f"train-{number}.parquet", batch_size=rows)
        first += size
    return folder


def read_shards(monkeypatch):
    """Return a list to which every shard that is read is added: (shard, first row, rows that are wanted)."""
    read, original = [], TableShards.read
    monkeypatch.setattr(
        TableShards,
        "read",
        lambda self, shard, rows: (
            read.append((shard, int(rows[0]), len(rows))) or original(self, shard, rows)
        ),
    )
    return read


def numbers(data, *start, ranks=1, rank=0, **stop):
    order = data.order(20, 1, ranks=ranks, rank=rank)
    return [batch["x"][:, 0].int().tolist() for batch in loader(data, order, *start, **stop)]


def test_processes_read_their_own_row_groups(tmp_path, monkeypatch):
    data = HubStream(parquet(tmp_path / "a", (130, 7, 203)), columns={"x": "x"}, buffer=40, readers=4)
    told = data.describe()
    assert (told["shards"], told["records"], told["readers"]) == (13 + 1 + 21, 340, 4)
    assert told["reading"] == "every process reads its own part of the shards"
    whole = numbers(data, stop=34)
    assert [sorted(chain(*whole[:17])), sorted(chain(*whole[17:]))] == [list(range(340))] * 2
    assert data.order(20, 1).global_batch(20).tolist() == whole[20]
    read = read_shards(monkeypatch)
    for ranks in (2, 4):
        parts, opened = [], []
        for rank in range(ranks):
            read.clear()
            parts.append(numbers(data, stop=17, ranks=ranks, rank=rank))
            opened.append({shard for shard, _, _ in read})
        assert [list(chain(*each)) for each in zip(*parts, strict=True)] == whole[:17]
        # One row group may lie on each border between readers; the end of an epoch opens the next one's first.
        assert sum(map(len, opened)) <= 35 + 3 + 4 * 3
        assert max(map(len, opened)) <= 35 // ranks + 2 * (4 // ranks) + 4
    read.clear()
    assert numbers(data, 13, stop=16) == whole[13:16]
    assert sum(rows for _, _, rows in read) <= 4 * (
        20 + 85 // 4 + 40
    )  # the last quarter, and what waited in the buffers
    resumed = [numbers(data, 13, stop=34, ranks=4, rank=rank) for rank in range(4)]
    assert [list(chain(*each)) for each in zip(*resumed, strict=True)] == whole[13:]


def test_tables_in_memory_and_on_disk_have_shards_too(tmp_path):
    table = datasets.Dataset.from_dict({"x": [[float(i), 0.0] for i in range(1000)]})
    table.save_to_disk(tmp_path / "saved")
    for source in (table.to_iterable_dataset(num_shards=5), tmp_path / "saved"):
        data = HubStream(source, columns={"x": "x"}, buffer=40)
        assert data.describe()["records"] == 1000
        assert sorted(chain(*numbers(data, stop=50))) == list(range(1000))


def test_other_sources_are_read_by_every_process_and_say_so(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(f'{{"x": [{i}, 0]}}\n' for i in range(100)))
    folder = parquet(tmp_path / "a", (50, 50))
    table = datasets.load_dataset(str(folder), split="train", streaming=True)
    for source, left in (
        (tmp_path / "a.jsonl", 100),
        (table.filter(lambda row: row["x"][0] % 2 == 0), 50),
        (table.skip(20), 80),
        (table.shuffle(seed=0, buffer_size=3), 100),
    ):
        data = HubStream(source, columns={"x": "x"})
        assert data.describe()["reading"] == "every process reads all records and decodes its own"
        assert len(set(chain(*numbers(data, stop=left // 20)))) == left // 20 * 20


def test_a_damaged_parquet_file_is_named(tmp_path):
    folder = parquet(tmp_path / "a", (50, 50))
    file = folder / "train-1.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="train-1.parquet"):
        HubStream(folder, columns={"x": "x"})


@pytest.mark.slow
def test_fit_and_evaluate(folder, tmp_path):
    data, test = HubStream(folder, columns={"x": "vector"}, buffer=20).split()
    model = rk.build(
        data=data, encoder="mlp(widths=(8,))", latent="continuous(dim=2)", decoder="mlp(widths=(8,))"
    )
    run = rk.fit(
        model, data, steps=60, batch=16, lr=1e-2, valid=test.take(10), out=tmp_path / "run", device="cpu"
    )
    assert np.isfinite(run.results["reconstruction"]["error"])
    assert run.metrics[-1]["loss"] < run.metrics[0]["loss"]


def test_non_finite_step_names_the_positions(folder):
    data = HubStream(folder, columns={"x": "vector"}, buffer=20)
    model = rk.build(
        data=data, encoder="mlp(widths=(8,))", latent="continuous(dim=2)", decoder="mlp(widths=(8,))"
    )
    expected = data.order(16).global_batch(3).tolist()

    def run():
        for step in rk.loop(model, data, steps=6, batch=16, device="cpu"):
            total = step.model(step.batch).total
            step.backward(total * float("nan") if step.index == 3 else total)
            step.update()

    with pytest.raises(rk.errors.TrainingError) as caught:
        run()
    assert all(str(position) in str(caught.value) for position in expected[:4])


@pytest.mark.slow
@pytest.mark.ranks
def test_two_processes_train_like_one(folder):
    alone, _ = train(0, folder)
    both = together(2, train, folder)
    for state, seen in both:
        assert len(seen) == 14
        for name, value in alone.items():
            torch.testing.assert_close(state[name], value, rtol=0, atol=1e-6)
