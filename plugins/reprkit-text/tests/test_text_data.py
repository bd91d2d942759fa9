"""Data sets of texts: conformance, unpaired by construction, parts that share nothing, and bad input."""

import gzip
import json
import subprocess

import pytest
import torch
from reprkit_text import debian_index
from reprkit_text.data.debian import Debian
from reprkit_text.data.documents import Documents
from reprkit_text.data.records import Record, deal, plain
from reprkit_text.data.text import TextData
from typer.testing import CliRunner

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError
from reprkit.testing import DatasetConformance

WORDS = "byte-pair(vocab=400)"


def lines(path, records):
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records), "utf-8")
    return path


def stories(count=12):
    """Documents of a number, whose summary is that number."""
    return [
        {"document": f"story {n} " + "tells of much " * (n % 4), "summary": f"short {n}"}
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    lines(folder / "stories.jsonl", stories())
    (folder / "book.txt").write_text("".join(f"Line {n} of a book.\n\n" for n in range(60)))
    return folder


class TestDebian(DatasetConformance):
    part = f"reprkit-text/debian(tokenizer='{WORDS}', words=(20, 40))"


class TestDocuments(DatasetConformance):
    @pytest.fixture(autouse=True)
    def _here(self, place):
        self.place = place

    def make(self):
        return Documents(self.place / "stories.jsonl", WORDS)


class TestLines(TestDocuments):
    def make(self):
        return TextData(self.place / "book.txt", WORDS)


class TestWindows(TestDocuments):
    def make(self):
        return TextData(self.place / "book.txt", WORDS, by="windows", length=9)


# ------------------------------------------------------------------ unpaired


def own(text):
    return text.split()[1]


def test_training_sees_the_summaries_of_other_documents_and_tests_see_pairs(place):
    data = Documents(place / "stories.jsonl", WORDS)
    for part in data.split(valid=True, seed=1):
        names = {own(each) for each in part.documents}
        for example in part:
            document, summary = (part.vocabulary.decode(example[name]) for name in ("x", "summary"))
            assert own(document) != own(summary)
            assert own(summary) in names, "a summary of another part"
        assert {own(each) for each in part.shown} == names
        if part.part == "train":
            with pytest.raises(DataError, match="paired=True"):
                part.pairs()
            with pytest.raises(DataError, match="for evaluation"):
                part.subset([0, 1]).pairs()
        else:
            assert {own(a) for a, _ in part.pairs()} == names
            assert all(own(a) == own(b) for a, b in part.pairs())
            assert len(part.subset([0]).pairs()) == 1
    with pytest.raises(DataError, match="for evaluation"):
        data.pairs()


def test_a_supervised_model_sees_pairs_of_the_same_parts(place):
    free, told = (Documents(place / "stories.jsonl", WORDS, paired=each) for each in (False, True))
    assert free.signature.to_json() == told.signature.to_json()
    for one, two in zip(free.split(valid=True), told.split(valid=True), strict=True):
        assert one.documents == two.documents
        for example in two:
            assert own(two.vocabulary.decode(example["x"])) == own(two.vocabulary.decode(example["summary"]))


def test_documents_of_one_group_stay_together_and_never_show_each_other():
    records = [Record(document=f"text {n} of {n // 3}", summary=f"{n}", group=f"{n // 3}") for n in range(21)]
    records += [Record(document=f"silent {n}") for n in range(5)]
    made = deal(records)
    kin = [each.kin for each in records]
    for number in range(len(records)):
        shown = int(made.shown[number])
        assert records[shown].summary
        assert kin[shown] != kin[number]
        assert made.hand[shown] == made.hand[number]
    for group in range(7):
        assert len({int(made.hand[n]) for n in range(21) if kin[n] == str(group)}) == 1
    sizes = torch.bincount(made.hand)
    assert len(sizes) == 3, "two groups a hand, three in the last"
    assert deal(records[21:]).shown is None
    with pytest.raises(DataError, match="nobody else's"):
        deal([records[0], records[1], records[21]])


def test_no_paragraph_is_in_two_parts():
    data = Debian(tokenizer=WORDS, part="whole", distinct=False)
    parts = data.split(valid=True)
    paragraphs = [{plain(each.partition("\n\n")[0]) for each in part.documents} for part in parts]
    assert not paragraphs[0] & paragraphs[1] | paragraphs[0] & paragraphs[2] | paragraphs[1] & paragraphs[2]
    again = data.split()
    assert torch.equal(again[1].indices, parts[2].indices), "valid takes from train alone"
    assert sum(map(len, parts)) == len(data)


def test_equal_lines_are_in_one_part_and_a_book_is_divided_in_order(place, tmp_path):
    (tmp_path / "said.txt").write_text("".join(f"word {n % 20}\n WORD  {n % 20}\r\n" for n in range(40)))
    data = TextData(tmp_path / "said.txt", WORDS)
    assert len(data) == 80
    parts = data.split(seed=3)
    said = [{plain(data.text(at)) for at in part.indices.tolist()} for part in parts]
    assert not said[0] & said[1]
    assert len(said[0] | said[1]) == 20
    book = TextData(place / "book.txt", WORDS, by="windows", length=16)
    train, valid, test = book.split(valid=True)
    assert train.indices.max() < valid.indices.min() < valid.indices.max() < test.indices.min()
    whole = (place / "book.txt").read_text()
    read = book.vocabulary.decode(torch.cat([each["x"] for each in book]))
    assert whole.strip().startswith(read[:1000])
    assert len(whole) - len(read) < 80, "only the rest of a window is left out"


def test_windows_run_over_files_with_an_end_between_them(tmp_path):
    for name, text in {"b.md": "second", "a.txt": "first", "c.html": "no text file"}.items():
        (tmp_path / name).write_text(text)
    data = TextData(tmp_path, "characters", by="windows", length=13)
    assert data.vocabulary.decode(data[0]["x"], specials=True).replace(" ", "") == "first[SEP]second[SEP]"


# ------------------------------------------------------------------ what the batch holds


def test_symbols_are_cut_counted_and_lengths_are_those_of_the_examples(place):
    data = Documents(place / "stories.jsonl", WORDS, length=4, summary_length=2)
    assert data.facts["cut_count"] > 0
    for name in ("x", "summary"):
        assert data.lengths()[name].tolist() == [len(each[name]) for each in data]
    batch = data.batch([2, 0])
    assert batch["x"][0, : len(data[2]["x"])].tolist() == data[2]["x"].tolist()
    free = Documents(place / "stories.jsonl", WORDS, length=None)
    assert "cut_count" not in free.facts
    assert [free.vocabulary.decode(each["x"]) for each in free] == [
        each["document"].strip() for each in stories()
    ]


def test_labels_are_sections_and_few_of_them_where_asked():
    data = Debian(tokenizer=WORDS, sections=4)
    assert len(data.classes) == data.signature["label"].vocab == 4
    rows = {row["paragraphs"].partition("\n\n")[0]: row for row in debian_index.read(debian_index.SAMPLE)[1]}
    for place in range(0, len(data), 40):
        assert data.classes[data[place]["label"]] == rows[data.documents[place]]["section"]
    assert len(data) < len(Debian(tokenizer=WORDS))


def test_documents_have_the_labels_that_are_named(tmp_path):
    rows = [{**each, "kind": "odd" if n % 2 else "even"} for n, each in enumerate(stories())]
    data = Documents(lines(tmp_path / "a.jsonl", rows), WORDS, label="kind")
    assert data.classes == ["even", "odd"]
    assert [int(each["label"]) for each in data] == [n % 2 for n in range(12)]


def test_the_sample_is_small_and_of_different_paragraphs():
    assert debian_index.SAMPLE.stat().st_size < 1_000_000
    about, rows = debian_index.read(debian_index.SAMPLE)
    assert len({plain(row["paragraphs"].partition("\n\n")[0]) for row in rows}) == len(rows) == 1500
    assert "bookworm" in about["release"]
    assert rk.dataset("debian").describe()["release"] == about["release"]


# ------------------------------------------------------------------ bad input


def test_broken_lines_are_left_out_by_name(tmp_path):
    path = lines(tmp_path / "a.jsonl", stories(300))
    broken = [b'{"document": "\xff"}', b"[1]", b'{"document": ""}', b'{"document": " \\u200b\\n"}', b'{"text": "a"}',
              b'{"document": 3}', b"{", b'{"document": "\\ud800"}', b'{"document": "a", "summary": ["b"]}']  # fmt: skip
    with path.open("ab") as file:
        file.write(b"\n".join(broken) + b"\n")
    with pytest.raises(DataError, match=r"(?s)only 300 of the 309 documents.*a.jsonl:301: no valid UTF-8"):
        Documents(path, WORDS)
    data = Documents(path, WORDS, max_corrupt=0.05)
    assert len(data) == 300
    assert data.facts["skipped_count"] == 9
    why = [each["why"] for each in data.facts["skipped"]]
    for place, part in enumerate(
        ("no valid UTF-8", "not an object", "is empty", "is empty", "it has no 'document', only 'text'",
         "int, not a text", "no JSON", "no valid Unicode", "'summary' is list")
    ):  # fmt: skip
        assert part in why[place], why
    for content, message in {"": "no lines", '{"document": " "}\n': "is empty"}.items():
        (tmp_path / "b.jsonl").write_text(content)
        with pytest.raises(DataError, match=message):
            Documents(tmp_path / "b.jsonl", WORDS)
    with pytest.raises(DataError, match="no file"):
        Documents(tmp_path / "none.jsonl", WORDS)


def test_without_summaries_there_is_no_such_field_and_pairs_say_why(tmp_path):
    rows = [{"document": each["document"], "sumary": each["summary"]} for each in stories()]
    path = lines(tmp_path / "a.jsonl", rows)
    data = Documents(path, WORDS)
    assert list(data.signature) == ["x"]
    assert sum(map(len, data.split(valid=True))) == 12
    test = data.split()[1]
    for call in (test.pairs, lambda: test.shown, lambda: Documents(path, WORDS, paired=True)):
        with pytest.raises(DataError, match=r"no line has 'summary'. Did you mean 'sumary'"):
            call()
    assert "summary" in Documents(path, WORDS, summary="sumary").signature
    assert "summary" not in Documents(path, WORDS, summary=None).signature


def test_some_without_a_summary_are_shown_another_ones(tmp_path):
    rows = [
        each if n % 3 else {"document": each["document"], "summary": None} for n, each in enumerate(stories())
    ]
    path = lines(tmp_path / "a.jsonl", rows)
    data = Documents(path, WORDS)
    assert all(len(each["summary"]) for each in data)
    told = Documents(path, WORDS, paired=True)
    assert len(told) == 8
    for free, pairs in zip(data.split(seed=2), told.split(seed=2), strict=True):
        assert set(pairs.documents) < set(free.documents)
    assert len(data.split()[1].pairs()) < len(data.split()[1])


def test_one_word_and_a_hundred_thousand(tmp_path):
    rows = [*stories(), {"document": "one"}, {"document": "word " * 100_000}]
    data = Documents(lines(tmp_path / "a.jsonl", rows), WORDS, length=50)
    assert data.facts["cut_count"] == 1
    assert data.vocabulary.decode(data[12]["x"]) == "one"
    assert len(data[13]["x"]) == 50
    assert len(Documents(tmp_path / "a.jsonl", "characters", length=None)[13]["x"]) == 499_999
    model = rk.build(
        data=data, encoder="gru(width=8)", decoder="gru(width=8, causal=True)", objective="autoregressive"
    )
    assert torch.isfinite(model(data.batch([12, 13])).total)


def test_a_vocabulary_of_another_script_is_refused(tmp_path):
    (tmp_path / "greek.txt").write_text("Γεια σου κόσμε\nΚαλημέρα\n")
    (tmp_path / "latin.txt").write_text("Hello world\nGood morning\n")
    latin = TextData(tmp_path / "latin.txt", "characters").vocabulary
    with pytest.raises(DataError, match="unknown to characters"):
        TextData(tmp_path / "greek.txt", latin)
    with (tmp_path / "latin.txt").open("a") as file:
        file.write("Good morning, Ω\n")
    assert 0 < TextData(tmp_path / "latin.txt", latin).facts["unknown_share"] < 0.1
    both = TextData(tmp_path, WORDS)
    assert both.text(0) == both.vocabulary.decode(both[0]["x"]) == "Γεια σου κόσμε"


def test_lines_that_are_no_utf8_are_left_out_by_name(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfgood line\n" * 1 + b"another good line\n" * 200 + b"latin-1: \xe4\n")
    for by, count in (("lines", 201), ("windows", None)):
        data = TextData(path, WORDS, by=by, length=20)
        (skipped,) = data.facts["skipped"]
        assert skipped["name"] == "a.txt:202"
        assert skipped["why"].startswith("no valid UTF-8")
        assert count in (None, len(data))
        with pytest.raises(DataError, match=r"a.txt:202: no valid UTF-8"):
            TextData(path, WORDS, by=by, max_corrupt=0)
    path.write_bytes(b"\xff\n")
    for by in ("lines", "windows"):
        with pytest.raises(DataError, match="none of the 1 lines"):
            TextData(path, WORDS, by=by)
    path.write_text("short")
    with pytest.raises(DataError, match="less than a window"):
        TextData(path, WORDS, by="windows")
    with pytest.raises(PartArgumentError, match="by is"):
        TextData(path, WORDS, by="pages")


# ------------------------------------------------------------------ Debian's index

PACKAGES = """Package: one
Source: ones (1.0)
Section: contrib/games

Package: two
Section: libs

Package: bare
"""
TRANSLATIONS = """Package: one
Description-md5: 1
Description-en: A game
 It is  a
 game.
 .
 Second
 .
 .
   * third

Package: two
Description-en: A library

Package: unknown
Description-en: Not in the lists
 Body.
"""


def test_the_index_is_parsed(tmp_path):
    for name, text in {"x_Packages": PACKAGES, "x_i18n_Translation-en": TRANSLATIONS}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "h_dists_test_InRelease").write_text("Origin: Debian\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n")
    about, rows = debian_index._gathered(tmp_path)
    assert about == {"release": {"test": "Sat, 11 Jul 2026 10:16:37 UTC"}}
    assert rows == [
        {"package": "one", "source": "ones", "section": "games", "synopsis": "A game",
         "paragraphs": "It is a game.\n\nSecond\n\n* third"},
        {"package": "two", "source": "two", "section": "libs", "synopsis": "A library", "paragraphs": ""},
    ]  # fmt: skip


def test_fetched_lists_are_kept_in_the_cache_and_used(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="reprkit text fetch debian"):
        Debian(index="fetched")
    sections, bodies = [], []
    for n in range(30):
        sections.append(f"Package: p{n}\nSection: s{n % 3}\n")
        bodies.append(f"Package: p{n}\nDescription-en: Synopsis {n}\n Number {n // 2} " + "word " * 30 + "\n")
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "x_Packages").write_text("\n".join(sections))
    (folder / "x_i18n_Translation-en").write_text("\n".join(bodies))
    from reprkit_text.commands import text

    done = CliRunner().invoke(text, ["fetch", "debian", "--lists", str(folder)])
    assert done.exit_code == 0, done.output
    assert "30 descriptions" in done.output
    assert len(Debian(index="fetched", tokenizer=WORDS)) == 15, "one of each first paragraph"
    assert len(Debian(index="fetched", tokenizer=WORDS, distinct=False)) == 30
    with gzip.open(debian_index.kept(), "wt") as file:
        file.write("{")
    with pytest.raises(DataError, match="is damaged"):
        Debian(index="fetched")
    with pytest.raises(rk.ReprkitError, match="keeps no descriptions"):
        debian_index.fetch(tmp_path)


def test_fetching_asks_apt_for_lists_of_its_own_and_says_what_fails(tmp_path, monkeypatch):
    asked = []

    def run(command, **options):
        asked.append(command)
        return subprocess.CompletedProcess(command, 100, "", "E: no network\n")

    monkeypatch.setattr(debian_index.subprocess, "run", run)
    monkeypatch.setattr(debian_index.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(rk.ReprkitError, match="E: no network"):
        debian_index.fetch()
    (command,) = asked
    assert command[-1] == "update"
    own = next(word for word in command if word.startswith("Dir::State::lists="))
    assert not own.endswith("/var/lib/apt/lists")
    monkeypatch.setattr(debian_index.shutil, "which", lambda name: None)
    with pytest.raises(rk.ReprkitError, match="no apt-get"):
        debian_index.fetch()


def test_debian_refuses_what_cannot_be():
    with pytest.raises(PartArgumentError, match="index is"):
        Debian(index="all")
    with pytest.raises(PartArgumentError, match="fewest, most"):
        Debian(words=(5, 1))
    with pytest.raises(DataError, match="no description of the index has 900 to 1000 words"):
        Debian(words=(900, 1000))
    with pytest.raises(DataError, match="length is a number"):
        Debian(length=0)
