import json
import pickle

import numpy as np
import pytest
import torch
from conformance import check_conformance

import reprkit as rk
from reprkit.data import JsonLines, Order, loader
from reprkit.errors import DataError, PartArgumentError

RECORDS = [
    {"text": f"número {number}", "label": ("sí", "no", "quizá")[number % 3], "id": number}
    for number in range(12)
]


def write(path, records):
    lines = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in records]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "set.jsonl", RECORDS)


def texts(data):
    return [bytes(each["x"].tolist()).decode() for each in data]


def test_texts_and_labels_conform(file):
    data = JsonLines(file)
    check_conformance(data)
    assert texts(data) == [each["text"] for each in RECORDS]
    assert data.describe()["classes"] == sorted({"sí", "no", "quizá"})
    assert [data.facts["classes"][int(each["label"])] for each in data] == [each["label"] for each in RECORDS]
    assert list(data.signature) == ["x", "label"]
    assert data.lengths()["x"].tolist() == [len(each["text"].encode()) for each in RECORDS]
    assert data.record(3) == RECORDS[3]
    assert texts(pickle.loads(pickle.dumps(data))) == texts(data)


def test_vectors_and_sequences_conform(tmp_path):
    draws = np.random.default_rng(0)
    rows = [{"x": draws.random(5).tolist(), "walk": draws.random((n, 2)).tolist()} for n in range(1, 11)]
    write(tmp_path / "a.jsonl", rows)
    vectors = JsonLines(tmp_path / "a.jsonl")
    check_conformance(vectors)
    assert vectors.signature["x"] == rk.Field(kind="vector", shape=(5,))
    assert torch.equal(vectors.batch(range(10))["x"], torch.tensor([each["x"] for each in rows]))
    walks = JsonLines(tmp_path / "a.jsonl", fields={"x": "walk"}, length=6)
    check_conformance(walks)
    assert walks.signature["x"] == rk.Field(kind="sequence", shape=(None, 2))
    batch = walks.batch([1, 9])
    assert batch["x_mask"].sum(1).tolist() == [2, 6] == walks.lengths()["x"][[1, 9]].tolist()
    assert torch.equal(batch["x"][0, :2], torch.tensor(rows[1]["walk"]))


def test_integers_are_symbols_when_declared(tmp_path):
    write(tmp_path / "a.jsonl", [{"x": [1, 2]}, {"x": [7]}, {"x": [0, 3, 4]}])
    data = JsonLines(tmp_path / "a.jsonl", kinds={"x": "tokens"})
    assert data.signature["x"] == rk.Field(kind="tokens", shape=(None,), vocab=8)
    assert [each["x"].tolist() for each in data] == [[1, 2], [7], [0, 3, 4]]
    wide = JsonLines(tmp_path / "a.jsonl", vocabs={"x": 9})
    assert wide.signature["x"].vocab == 9
    few = JsonLines(tmp_path / "a.jsonl", vocabs={"x": 5}, max_corrupt=0.5)
    assert (len(few), few.facts["skipped"][0]["why"]) == (
        2,
        "'x' holds the symbol 7, and vocabs= declares 5 symbols",
    )


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (["b", "a", "c", "a"], ["a", "b", "c"]),
        ([7, 3, 10, 3], [3, 7, 10]),
        ([True, False, True, True], [False, True]),
    ],
)
def test_labels_are_numbered_in_sorted_order(tmp_path, values, classes):
    write(tmp_path / "a.jsonl", [{"x": [0.5], "label": each, "other": each} for each in values])
    data = JsonLines(tmp_path / "a.jsonl")
    assert data.facts["classes"] == classes
    assert [int(each["label"]) for each in data] == [classes.index(each) for each in values]
    fields = {"x": "x", "other": "other"}
    other = JsonLines(tmp_path / "a.jsonl", fields=fields, kinds={"other": "label"})
    assert json.loads(json.dumps(other.describe()))["other_classes"] == classes
    assert other.signature["other"].vocab == len(classes)


def test_declared_classes_do_not_depend_on_the_file(tmp_path):
    write(tmp_path / "a.jsonl", [{"text": "t", "label": each} for each in "cbb"])
    data = JsonLines(tmp_path / "a.jsonl", classes={"label": ["c", "a", "b"]})
    assert [int(each["label"]) for each in data] == [0, 2, 2]
    assert data.signature["label"].vocab == 3
    with pytest.raises(
        DataError, match=r"(?s)only 2 of the 3 records.*a\.jsonl:1: 'label' is 'c', which is not"
    ):
        JsonLines(tmp_path / "a.jsonl", classes={"label": ["a", "b"]})


def test_folder_is_its_files_in_order(tmp_path):
    (tmp_path / "set" / "part").mkdir(parents=True)
    write(tmp_path / "set" / "b.ndjson", RECORDS[4:8])
    write(tmp_path / "set" / "a.jsonl", RECORDS[:4])
    write(tmp_path / "set" / "part" / "1.jsonl", RECORDS[8:])
    write(tmp_path / "set" / "other.json", [{"text": "not this"}])
    data = JsonLines(tmp_path / "set")
    assert texts(data) == [each["text"] for each in RECORDS]
    assert data.name == "set"


BROKEN = {
    '{"text": "cut off': "no JSON",
    '["a", "b"]': "it is a list of 2, not an object",
    '{"label": "no"}': "it has no 'text'",
    '{"text": 5, "label": "no"}': "'text' is an integer, not a text",
    '{"text": "", "label": "no"}': "'text' is an empty text",
    '{"text": "lone \\ud800", "label": "no"}': "UnicodeEncodeError",
    '{"text": "a", "label": 3}': "'label' is an integer, not a text like the others",
    '{"text": "a", "label": null}': "'label' is null, not a text like the others",
    "[" * 100_000: "no JSON",
}


def test_corrupt_records_are_skipped_and_named(tmp_path):
    lines = []
    for good, broken in zip(RECORDS, BROKEN, strict=False):
        lines += [good, broken]
    write(tmp_path / "a.jsonl", lines + RECORDS[len(BROKEN) :])
    with pytest.raises(
        DataError, match=r"(?s)only 12 of the 21 records.*a\.jsonl:2: no JSON.*a\.jsonl:4:.*max_corrupt"
    ):
        JsonLines(tmp_path / "a.jsonl")
    data = JsonLines(tmp_path / "a.jsonl", max_corrupt=0.5)
    assert texts(data) == [each["text"] for each in RECORDS]
    assert len(data.lengths()["x"]) == 12
    assert data.facts["classes"] == ["no", "quizá", "sí"]
    assert data.facts["skipped_count"] == len(BROKEN)
    for place, (told, why) in enumerate(zip(data.facts["skipped"], BROKEN.values(), strict=True)):
        assert told["name"] == f"a.jsonl:{2 * place + 2}"
        assert why in told["why"]


def test_corrupt_numbers_are_skipped(tmp_path):
    bad = [
        "[1, 2, 3]",
        "[1, NaN]",
        "[1, 1e39]",
        "[1, Infinity]",
        "[true, 1]",
        '["1", 2]',
        "[[1, 2]]",
        "3",
        "[1, 1e400]",
    ]
    bad.append(f"[1, {10**400}]")
    write(tmp_path / "a.jsonl", [{"x": [0, 1.5]}] * 12 + [f'{{"x": {each}}}' for each in bad])
    data = JsonLines(tmp_path / "a.jsonl", max_corrupt=0.5)
    assert (len(data), data.facts["skipped_count"]) == (12, len(bad))
    assert data.facts["skipped"][0] == {"name": "a.jsonl:13", "why": "'x' has 3 numbers, not 2"}
    write(
        tmp_path / "b.jsonl",
        [{"x": [[0, 1], [1, 1]]}] * 4 + [{"x": [[0, 1], [1]]}, {"x": []}, {"x": [[]]}, {"x": [1, 1]}],
    )
    data = JsonLines(tmp_path / "b.jsonl", max_corrupt=0.5)
    assert (len(data), data.facts["skipped_count"]) == (4, 4)


def test_majority_of_the_first_records_decides(tmp_path):
    write(tmp_path / "a.jsonl", [{"x": "oops", "label": 1}, *[{"x": [1.0, 2.0], "label": "a"}] * 9])
    data = JsonLines(tmp_path / "a.jsonl", max_corrupt=0.1)
    assert (len(data), data.signature["x"].kind, data.facts["classes"]) == (9, "vector", ["a"])


def test_split_and_workers_give_the_same_records(file):
    train, test = JsonLines(file).split(seed=2)
    assert sorted(texts(train) + texts(test)) == sorted(each["text"] for each in RECORDS)
    order = Order(len(train), 3, seed=1)
    here, ahead = (list(loader(train, order, workers=workers, stop=5)) for workers in (0, 2))
    for one, two in zip(here, ahead, strict=True):
        assert set(one) == {"x", "x_mask", "label"}
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_records_are_read_on_demand(file):
    data = JsonLines(file)
    raw = file.read_bytes()
    file.write_bytes(raw.replace("número 5".encode(), "NÚMERO 5".encode()))
    assert texts(data)[5] == "NÚMERO 5"


def test_invalid_arguments_raise(tmp_path, file):
    with pytest.raises(DataError, match="no file"):
        JsonLines(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match=r"no 'txt' for field 'x'\. Did you mean 'text'"):
        JsonLines(file, fields={"x": "txt"})
    with pytest.raises(DataError, match="kinds: there is no field 'id'"):
        JsonLines(file, kinds={"id": "label"})
    with pytest.raises(PartArgumentError, match="Did you mean 'vector'"):
        JsonLines(file, kinds={"x": "vectr"})
    with pytest.raises(DataError, match="most of the first records hold none"):
        JsonLines(file, kinds={"x": "vector"})
    with pytest.raises(DataError, match="occurs twice"):
        JsonLines(file, classes={"label": ["no", "no"]})
    with pytest.raises(DataError, match="labels are texts.*most often a number"):
        JsonLines(write(tmp_path / "f.jsonl", [{"x": "a", "label": 0.5}]))
    with pytest.raises(DataError, match=r"none of them called 'x' or 'text'\n.*fields="):
        JsonLines(write(tmp_path / "g.jsonl", [{"question": "a", "answer": "b"}]))
    with pytest.raises(DataError, match="is an object in most records"):
        JsonLines(write(tmp_path / "h.jsonl", [{"x": {"a": 1}}]))
    with pytest.raises(DataError, match="is a JSON object"):
        JsonLines(write(tmp_path / "i.jsonl", ["[", '{"text": "a"},'.rstrip("}"), "]"]))
    with pytest.raises(DataError, match="it is empty"):
        JsonLines(write(tmp_path / "j.jsonl", []))
    with pytest.raises(PartArgumentError, match="Did you mean 'fields'"):
        rk.dataset(f"json-lines(path={str(file)!r}, field='text')")


def test_probe_reads_labels_by_reference(tmp_path):
    draws = np.random.default_rng(0)
    rows = [
        {"vec": (draws.standard_normal(4) + 4 * (number % 2)).round(3).tolist(), "kind": "ab"[number % 2]}
        for number in range(80)
    ]
    write(tmp_path / "a.jsonl", rows)
    path = str(tmp_path / "a.jsonl")
    data = rk.dataset(f"json-lines(path={path!r}, fields={{'x': 'vec', 'label': 'kind'}})")
    train, test = data.split()
    model = rk.build(data=train, encoder="mlp", latent="continuous(dim=4)", decoder="mlp")
    results = rk.evaluate(model, test, "knn", fit_on=train)
    assert results["knn"]["accuracy"] > 0.9


def test_parts_follow_from_the_records_or_a_group(tmp_path):
    def parts(records, **options):
        (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(record) for record in records))
        data = JsonLines(tmp_path / "a.jsonl", **options)
        split = data.split(seed=1, valid=True)
        return [{data.record(int(index))["patient"] for index in part.indices} for part in split]

    records = [{"x": [number, 1.5], "patient": f"p{number // 2}"} for number in range(60)]
    fields = {"fields": {"x": "x"}}
    before = parts(records, group="patient", **fields)
    assert sum(map(len, before)) == 30
    after = parts([{"x": [0.5, 0.5], "patient": "new"}, *records], group="patient", **fields)
    assert [part - {"new"} for part in after] == before
    assert sum(map(len, parts(records, **fields))) > 30  # without a group, a patient is in several parts
    with pytest.raises(DataError, match="no record has 'patent', the name of group=.*patient"):
        parts(records, group="patent", **fields)
    with pytest.raises(DataError, match="it has no 'patient'"):
        parts(
            [{**record, "patient": 1} for record in records[:30]] + [{"x": [1, 2.5]}] * 30,
            group="patient",
            **fields,
        )
