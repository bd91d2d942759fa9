"""Data sets of texts: conformance, unpaired by construction, disjoint parts."""

import pytest
import torch
from reprkit_text import debian_index
from reprkit_text.data.debian import Debian
from reprkit_text.data.documents import Documents
from reprkit_text.data.records import Record, assign_summaries, normalize_text
from reprkit_text.data.text import TextData
from story_files import WORDS, stories, write_lines

import reprkit as rk
from reprkit.data.raw_input import as_batch
from reprkit.errors import DataError
from reprkit.testing import DatasetConformance
from reprkit.testing.kit import failed_checks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    write_lines(folder / "stories.jsonl", stories())
    (folder / "book.txt").write_text("".join(f"Line {n} of a book.\n\n" for n in range(60)))
    return folder


class TestDebian(DatasetConformance):
    part = f"reprkit-text/debian(tokenizer='{WORDS}', words=(20, 40))"


class TestDocuments(DatasetConformance):
    @pytest.fixture(autouse=True)
    def _set_folder(self, folder):
        self.folder = folder

    def make(self):
        return Documents(self.folder / "stories.jsonl", WORDS)


class TestLines(TestDocuments):
    def make(self):
        return TextData(self.folder / "book.txt", WORDS)


class TestWindows(TestDocuments):
    def make(self):
        return TextData(self.folder / "book.txt", WORDS, by="windows", length=9)


@pytest.mark.slow
@pytest.mark.parametrize("options", ["", ", by='windows', length=9"])
def test_texts_and_files_are_read_by_the_vocabulary(folder, options, tmp_path):
    case = DatasetConformance()
    case.part = f"text(path={str(folder / 'book.txt')!r}, tokenizer={str(WORDS)!r}{options})"
    assert failed_checks(case) == {}


@pytest.mark.slow
def test_a_model_reads_texts_and_text_files(folder, tmp_path):
    data = TextData(folder / "book.txt", "byte-pair(vocab=300)")
    (tmp_path / "new.md").write_text("Line 1 of a book.\n\nA book.\n")
    read = as_batch(["Line 1 of a book.", tmp_path / "new.md"], data.signature)
    ids = data.vocabulary.encode("Line 1 of a book.")
    assert [read["x"][row][read["x_mask"][row]].tolist() for row in (0, 1)] == [ids, ids]
    assert read["x"][2][read["x_mask"][2]].tolist() == data.vocabulary.encode("A book.")
    model = rk.build(
        data=data,
        encoder="transformer(width=8, depth=1, heads=2)",
        latent="continuous(dim=2)",
        decoder="transformer(width=8, depth=1, heads=2)",
    )
    vectors = rk.embed(model, ["Line 1 of a book.", "A book."])
    assert rk.embed(model, tmp_path / "new.md") == pytest.approx(vectors, abs=1e-5)
    with pytest.raises(DataError, match="it has another vocabulary"):
        rk.embed(model, TextData(folder / "book.txt", "characters"))
    windows = TextData(folder / "book.txt", "byte-pair(vocab=300)", by="windows", length=9)
    with pytest.raises(DataError, match=r"'A': it has \d symbols, and the model reads windows of 9"):
        as_batch("A", windows.signature)


# ------------------------------------------------------------------ unpaired


def story_number(text):
    return text.split()[1]


def test_training_parts_have_summaries_of_other_documents_and_test_parts_have_pairs(folder):
    data = Documents(folder / "stories.jsonl", WORDS)
    for part in data.split(valid=True, seed=1):
        names = {story_number(each) for each in part.documents}
        for example in part:
            document, summary = (part.vocabulary.decode(example[name]) for name in ("x", "summary"))
            assert story_number(document) != story_number(summary)
            assert story_number(summary) in names, "a summary of another part"
        assert {story_number(each) for each in part.shown_summaries} == names
        if part.part == "train":
            with pytest.raises(DataError, match="paired=True"):
                part.pairs()
            with pytest.raises(DataError, match="for evaluation"):
                part.subset([0, 1]).pairs()
        else:
            assert {story_number(a) for a, _ in part.pairs()} == names
            assert all(story_number(a) == story_number(b) for a, b in part.pairs())
            assert len(part.subset([0]).pairs()) == 1
    with pytest.raises(DataError, match="for evaluation"):
        data.pairs()


def test_paired_data_has_the_same_parts(folder):
    unpaired, paired = (Documents(folder / "stories.jsonl", WORDS, paired=option) for option in (False, True))
    assert unpaired.signature.to_json() == paired.signature.to_json()
    for one, two in zip(unpaired.split(valid=True), paired.split(valid=True), strict=True):
        assert one.documents == two.documents
        for example in two:
            assert story_number(two.vocabulary.decode(example["x"])) == story_number(
                two.vocabulary.decode(example["summary"])
            )


def test_documents_of_one_group_stay_together_and_never_exchange_summaries():
    records = [Record(document=f"text {n} of {n // 3}", summary=f"{n}", group=f"{n // 3}") for n in range(21)]
    records += [Record(document=f"without summary {n}") for n in range(5)]
    assignment = assign_summaries(records)
    group_keys = [record.group_key for record in records]
    for number in range(len(records)):
        other = int(assignment.summary_of[number])
        assert records[other].summary
        assert group_keys[other] != group_keys[number]
        assert assignment.cluster[other] == assignment.cluster[number]
    for group in range(7):
        assert len({int(assignment.cluster[n]) for n in range(21) if group_keys[n] == str(group)}) == 1
    sizes = torch.bincount(assignment.cluster)
    assert len(sizes) == 3, "two groups per cluster, three in the last"
    assert assign_summaries(records[21:]).summary_of is None
    with pytest.raises(DataError, match="no other document's"):
        assign_summaries([records[0], records[1], records[21]])


def test_no_paragraph_is_in_two_parts():
    data = Debian(tokenizer=WORDS, part="whole", distinct=False)
    parts = data.split(valid=True)
    paragraphs = [{normalize_text(each.partition("\n\n")[0]) for each in part.documents} for part in parts]
    assert not paragraphs[0] & paragraphs[1] | paragraphs[0] & paragraphs[2] | paragraphs[1] & paragraphs[2]
    again = data.split()
    assert torch.equal(again[1].indices, parts[2].indices), "valid is taken from train alone"
    assert sum(map(len, parts)) == len(data)


def test_equal_lines_are_in_one_part_and_windows_are_split_in_order(folder, tmp_path):
    (tmp_path / "said.txt").write_text("".join(f"word {n % 20}\n WORD  {n % 20}\r\n" for n in range(40)))
    data = TextData(tmp_path / "said.txt", WORDS)
    assert len(data) == 80
    parts = data.split(seed=3)
    said = [{normalize_text(data.text(at)) for at in part.indices.tolist()} for part in parts]
    assert not said[0] & said[1]
    assert len(said[0] | said[1]) == 20
    book = TextData(folder / "book.txt", WORDS, by="windows", length=16)
    train, valid, test = book.split(valid=True)
    assert train.indices.max() < valid.indices.min() < valid.indices.max() < test.indices.min()
    whole = (folder / "book.txt").read_text()
    read = book.vocabulary.decode(torch.cat([each["x"] for each in book]))
    assert whole.strip().startswith(read[:1000])
    assert len(whole) - len(read) < 80, "only the rest of a window is left out"


def test_windows_span_files_with_an_end_symbol_between_them(tmp_path):
    for name, text in {"b.md": "second", "a.txt": "first", "c.html": "no text file"}.items():
        (tmp_path / name).write_text(text)
    data = TextData(tmp_path, "characters", by="windows", length=13)
    assert data.vocabulary.decode(data[0]["x"], specials=True).replace(" ", "") == "first[SEP]second[SEP]"


# ------------------------------------------------------------------ contents of examples and batches


def test_long_texts_are_cut_and_counted_and_lengths_match_the_examples(folder):
    data = Documents(folder / "stories.jsonl", WORDS, length=4, summary_length=2)
    assert data.facts["cut_count"] > 0
    for name in ("x", "summary"):
        assert data.lengths()[name].tolist() == [len(each[name]) for each in data]
    batch = data.batch([2, 0])
    assert batch["x"][0, : len(data[2]["x"])].tolist() == data[2]["x"].tolist()
    uncut = Documents(folder / "stories.jsonl", WORDS, length=None)
    assert "cut_count" not in uncut.facts
    assert [uncut.vocabulary.decode(each["x"]) for each in uncut] == [
        each["document"].strip() for each in stories()
    ]


@pytest.mark.slow
def test_labels_are_sections_limited_to_the_most_frequent():
    data = Debian(tokenizer=WORDS, sections=4)
    assert len(data.classes) == data.signature["label"].vocab == 4
    rows = {row["paragraphs"].partition("\n\n")[0]: row for row in debian_index.read(debian_index.SAMPLE)[1]}
    for place in range(0, len(data), 40):
        assert data.classes[data[place]["label"]] == rows[data.documents[place]]["section"]
    assert len(data) < len(Debian(tokenizer=WORDS))


def test_documents_have_the_labels_of_the_named_key(tmp_path):
    rows = [{**each, "kind": "odd" if n % 2 else "even"} for n, each in enumerate(stories())]
    data = Documents(write_lines(tmp_path / "a.jsonl", rows), WORDS, label="kind")
    assert data.classes == ["even", "odd"]
    assert [int(each["label"]) for each in data] == [n % 2 for n in range(12)]


def test_the_sample_is_small_and_its_paragraphs_are_distinct():
    assert debian_index.SAMPLE.stat().st_size < 1_000_000
    about, rows = debian_index.read(debian_index.SAMPLE)
    assert len({normalize_text(row["paragraphs"].partition("\n\n")[0]) for row in rows}) == len(rows) == 1500
    assert "bookworm" in about["release"]
    assert rk.dataset("debian").describe()["release"] == about["release"]


@pytest.mark.parametrize("by", ["lines", "windows"])
def test_line_ends_and_encodings_give_one_text(tmp_path, by):
    text = "".join(f"größer, line {number}\n" for number in range(40))
    symbols = []
    for name, content in {
        "unix": text.encode(),
        "windows": text.replace("\n", "\r\n").encode("utf-8-sig"),
        "marked": text.replace("\n", "\r\n").encode("utf-16"),
        "latin": text.encode("latin-1"),
    }.items():
        (tmp_path / f"{name}.txt").write_bytes(content)
        options = {"encoding": "latin-1"} if name == "latin" else {}
        data = TextData(tmp_path / f"{name}.txt", "characters", by=by, length=32, **options)
        symbols.append([example["x"].tolist() for example in data])
        assert data.facts.get("encoding") == {"marked": "utf-16-le", "latin": "iso8859-1"}.get(name)
    assert all(each == symbols[0] for each in symbols[1:])
    with pytest.raises(DataError, match="not valid UTF-8"):
        TextData(tmp_path / "latin.txt", "characters", by=by, length=32)
    (tmp_path / "plain.txt").write_bytes(text.encode("utf-16-le"))
    with pytest.raises(DataError, match="has NUL characters, as UTF-16-LE"):
        TextData(tmp_path / "plain.txt", "characters", by=by, length=32)
