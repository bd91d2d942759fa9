import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.data import Tensors
from reprkit.evaluation import Results
from reprkit.reporting import Note, Section, compare
from reprkit.reporting.folder import duration, facts
from reprkit.reporting.page import number

VOID = {"meta", "img", "br", "link", "input", "hr"}
MEASURES = ("reconstruction", "linear-probe", "knn", "codebook", "projection(tsne=False)")


class Checker(HTMLParser):
    """Every element is closed, nothing points outside of the page."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.sources, self.ids, self.headings, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [named["id"]] if "id" in named else []
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            if name in named:
                self.sources.append(named[name])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        opened = self.open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def checked(path):
    text = path.read_text(encoding="utf-8")
    page = Checker()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(page.ids) == len(set(page.ids)), "two elements have one id"
    for source in page.sources:
        assert source.startswith(("data:", "#")), source
        assert not source.startswith("#") or source[1:] in page.ids
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"@import|url\((?!#)", text)
    return page, " ".join(page.text)


@pytest.fixture(scope="module")
def trained():
    """A short real training run and its results: (train, test, model, results)."""
    train, test = rk.dataset("digits").subset(range(300)).split(seed=0)
    made = {}
    for latent in ("gaussian(dim=4)", "binary(bits=6)"):
        model = rk.build(data=train, encoder="mlp(widths=(32,))", latent=latent, decoder="mlp(widths=(32,))")
        made[latent] = model, rk.evaluate(model, test, *MEASURES, fit_on=train)
    return train, test, made


def log(folder, *lines, **record):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if record:
        (folder / "run.json").write_text(json.dumps(record))


LINES = [
    {
        "step": step,
        "seconds": step / 10,
        "loss": 100 - step,
        "lr": 1e-3,
        "terms": {"reconstruction": 90 - step, "kl": step},
        "metrics": {"usage": 1.0, "error": 3.0},
        "results": {"reconstruction": {"error": 4.0, "mse": 0.1}},
    }
    for step in (0, 10, 20)
]
RECORD = {
    "command": "python recipe.py --latent 'gaussian(dim=4)'",
    "status": "finished",
    "seed": 7,
    "pid": 4242,
    "host": "secret",
    "versions": {"python": "3.11.7", "torch": "2.11.0"},
    "started": "2026-01-01T00:00:00+00:00",
    "data": {
        "name": "digits (train)",
        "size": 240,
        "signature": {
            "x": {"kind": "image", "shape": [8, 8, 1], "range": [0.0, 1.0], "vocab": None},
            "label": {"kind": "label", "shape": [], "range": None, "vocab": 10},
        },
    },
    "stages": {"main": {"steps": 20, "step": 20, "seconds": 200.0}},
}


def test_a_run_on_one_page(trained, tmp_path):
    _, _, made = trained
    results = made["gaussian(dim=4)"][1]
    log(tmp_path, *LINES, **RECORD)
    path = rk.report(tmp_path, results)
    assert path == tmp_path / "report.html"
    page, text = checked(path)
    assert page.headings == [
        "Results",
        "Training",
        "Inputs and reconstructions",
        "Samples from the prior",
        "Latent traversals",
        "The representation",
        "Parts and parameters",
        "Data",
        "How it was made",
    ]
    for said in (
        "gaussian(dim=4) on digits",
        RECORD["command"],
        "3 min 20 s",
        "torch 2.11.0",
        "seed 7",
        "20",
        number(results["reconstruction"]["error"]),
        number(results["knn"]["accuracy"]),
        "total loss",
        "kl",
        "usage",
        "Principal components",
        "Variance of each dimension",
        "What the linear probe mistakes",
        "reprkit/gaussian(dim=4)",
        "8 × 8 × 1",
        "0 to 1",
        "dimension 3",
    ):
        assert said in re.sub(r"\s+", " ", text), said
    assert "secret" not in text
    assert "4242" not in text
    assert "mse, " not in text
    assert text.count("8 × 8 × 1") == 1
    pictures = [each for each in page.sources if each.startswith("data:image/png")]
    assert len(pictures) >= 16 * 3 + 4 * 9
    written = json.loads((tmp_path / "results.json").read_text())
    assert written == json.loads(json.dumps(results))


def test_in_training_and_evaluated_share_a_chart(trained, tmp_path):
    log(tmp_path, *LINES)
    _, text = checked(rk.report(tmp_path, trained[2]["gaussian(dim=4)"][1]))
    html = (tmp_path / "report.html").read_text()
    assert html.count("<b>error</b>") == 1
    assert "Dashed: evaluated on the way" in text
    assert html.count("stroke-dasharray") >= 1
    assert "<b>learning rate</b>" not in html  # it never changed


def test_equal_names_of_different_things_stay_apart(tmp_path):
    results = {
        "knn": {"accuracy": 0.5, "n": 9},
        "linear-probe": {"accuracy": 0.6},
        "codebook": {"a.usage": 0.7},
    }
    terms = {"a.kl": 1.0, "b.kl": 2.0}
    log(
        tmp_path,
        *(
            {"step": s, "loss": s, "terms": terms, "metrics": {"a.usage": 1}, "results": results}
            for s in (1, 2)
        ),
    )
    rk.report(tmp_path)
    titles = re.findall(r"<figcaption><b>(.*?)</b>", (tmp_path / "report.html").read_text())
    assert titles == ["total loss", "a.kl", "b.kl", "a.usage", "knn accuracy", "linear-probe accuracy"]


def test_without_anything_it_is_a_page_all_the_same(tmp_path):
    page, text = checked(rk.report(tmp_path / "new"))
    assert "Nothing was measured" in text
    assert "nothing was logged" in text
    assert "torch" in text  # of this process
    assert page.headings == ["Results", "Training", "How it was made"]
    assert not (tmp_path / "new" / "results.json").exists()


def test_results_are_read_from_the_folder(trained, tmp_path):
    _, test, made = trained
    model, results = made["binary(bits=6)"]
    first = rk.report(tmp_path, results).read_text().partition("Made by")[0]
    _, text = checked(rk.report(tmp_path))
    assert number(results["reconstruction"]["error"]) in text
    assert (tmp_path / "report.html").read_text().partition("Made by")[0] == first
    (tmp_path / "figures.npz").unlink()
    _, text = checked(rk.report(tmp_path))
    assert number(results["reconstruction"]["error"]) in text
    assert "No pictures" in text
    model.train()
    page, _ = checked(rk.report(tmp_path, model=model, data=test))
    assert "Samples from the prior" in page.headings
    assert "Parts and parameters" in page.headings
    assert model.training


def test_damaged_files_are_told_and_not_fatal(trained, tmp_path):
    log(tmp_path, *LINES)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "lo')
    (tmp_path / "run.json").write_text("{")
    (tmp_path / "results.json").write_text("[")
    _, text = checked(rk.report(tmp_path))
    assert "results.json is damaged" in text
    assert "run.json is damaged" in text
    assert "total loss" in text


def test_several_runs_on_one_page(trained, tmp_path):
    train, test, made = trained
    table = {"PCA, 4 dimensions": rk.evaluate("pca(dim=4)", test, *MEASURES, fit_on=train)}
    table |= {name: results for name, (_, results) in made.items()}
    for place, name in enumerate(made):
        log(tmp_path / str(place), *LINES, **{**RECORD, "seed": place})
        rk.report(tmp_path / str(place), table[name])
    path = rk.report(tmp_path, table, title="Latents", verdict="One network.")
    _, text = checked(path)
    text = re.sub(r"\s+", " ", text)
    head = re.search(r"<thead>.*?</thead>", path.read_text())[0]
    assert re.findall(r"<th[^>]*>([^<]*)</th>", head) == [
        "",
        "reconstruction error",
        "bits an example",
        "linear probe",
        "k-NN",
        "usage",
    ]
    for name in table:
        assert name in text
    assert "One network." in text
    # One row of inputs, then a row a run.
    assert path.read_text().count('alt="input 1"') == 1
    assert all(path.read_text().count(f'alt="{name} 1"') >= 1 for name in table)
    assert text.count("Principal components. 60 examples.") == len(table)
    assert "What the linear probe mistakes" not in text  # a detail
    assert text.count("has no prior of its own") == 1
    assert "seed" in text  # differs, so in a table
    assert text.count(RECORD["command"]) == 1  # is the same
    assert set(json.loads((tmp_path / "results.json").read_text())) == set(table)
    _, again = checked(rk.report(tmp_path))  # read back as several runs
    assert all(name in again for name in table)


def test_columns_and_baselines(trained, tmp_path):
    results = trained[2]["binary(bits=6)"][1]
    known = {"reconstruction": {"error": 1.55}, "knn": {"accuracy": 0.9}}
    rk.report(
        tmp_path,
        results,
        baselines={"PCA-8, published": known},
        columns={"reconstruction.error": "error, squared"},
    )
    head = re.search(r"<thead>.*?</thead>", (tmp_path / "report.html").read_text())[0]
    assert re.findall(r"<th[^>]*>([^<]*)</th>", head) == ["", "error, squared"]
    assert "PCA-8, published" in (tmp_path / "report.html").read_text()
    assert "PCA-8" not in (tmp_path / "results.json").read_text()


def test_a_table_for_the_terminal():
    runs = {
        "pca": {"reconstruction": {"error": 1.5}, "knn": {"accuracy": 0.9}},
        "vq": {"reconstruction": {"error": 0.5}},
    }
    assert str(compare(runs)).splitlines() == [
        "     reconstruction error   k-NN",
        "────────────────────────────────",
        "pca                 1.500  0.900",
        "vq                  0.500      –",
    ]
    assert compare(runs).best == {"reconstruction error": "min", "k-NN": "max"}
    assert compare({"a": {"mine": {"score": 1}}}).columns == ["mine.score"]


def test_sections_of_ones_own(trained, tmp_path):
    own = Section("Listening", [Note("three of four preferred it")])
    page, text = checked(rk.report(tmp_path, trained[2]["binary(bits=6)"][1], sections=[own]))
    assert page.headings.index("Listening") < page.headings.index("Parts and parameters")
    assert "three of four" in text


def worlds():
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(6) < torch.tensor([[6], [2], [4]] * 4)
    varying = rk.Signature({"x": rk.Field(kind="sequence", shape=(None, 2))})
    frames = rk.Signature({"x": rk.Field(kind="sequence", shape=(6, 5), range=(-5, 5))})
    words = rk.Signature({"x": rk.Field(kind="tokens", shape=(6,), vocab=9)})
    plain = rk.Signature({"x": rk.Field(kind="vector", shape=(7,))})
    colour = rk.Signature({"x": rk.Field(kind="image", shape=(8, 8, 3), range=(0, 1))})
    real = {"encoder": "gru(width=8)", "decoder": "transformer(width=8, depth=1, heads=2)"}
    flat = {"encoder": "mlp(widths=(8,))", "decoder": "mlp(widths=(8,))"}
    yield "varying", Tensors({"x": torch.randn(12, 6, 2, generator=generator), "x_mask": mask}, varying), real
    yield "frames", Tensors({"x": torch.randn(12, 6, 5, generator=generator).clamp(-5, 5)}, frames), real
    yield "words", Tensors({"x": torch.randint(0, 9, (12, 6), generator=generator)}, words), real
    yield "plain", Tensors({"x": torch.randn(12, 7, generator=generator)}, plain), flat
    yield "colour", Tensors({"x": torch.rand(12, 8, 8, 3, generator=generator)}, colour), flat


@pytest.mark.parametrize(
    ("name", "data", "parts"), list(worlds()), ids=lambda each: each if isinstance(each, str) else ""
)
def test_every_kind_of_data_has_pictures(name, data, parts, tmp_path):
    model = rk.build(data=data, latent="gaussian(dim=2)", **parts)
    page, text = checked(rk.report(tmp_path, rk.evaluate(model, data, "reconstruction", "codebook")))
    assert "Inputs and reconstructions" in page.headings
    assert "Latent traversals" in page.headings
    assert ("Samples from the prior" in page.headings) == (name != "varying")
    shown = {
        "varying": "example 1, channel 1",
        "plain": "input",
        "words": "reconstruction",
        "frames": "input",
        "colour": "input",
    }
    assert shown[name] in text or f'alt="{shown[name]} 1"' in (tmp_path / "report.html").read_text()


def test_only_the_first_rank_writes(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("reprkit.distributed.rank", lambda: 1)
    assert rk.report(tmp_path, trained[2]["binary(bits=6)"][1]) == tmp_path / "report.html"
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_do_not_spoil_the_page(tmp_path):
    results = Results({"reconstruction": {"error": float("nan"), "nll": float("inf")}})
    _, text = checked(rk.report(tmp_path, results))
    assert "inf" in text
    assert json.loads((tmp_path / "results.json").read_text()) == {
        "reconstruction": {"error": None, "nll": None}
    }


@pytest.mark.parametrize(("seconds", "text"), [(4.2, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_stages_that_were_stopped():
    stages = {
        "ae": {"steps": 1000, "step": 1000, "seconds": 5.0},
        "gan": {"steps": 2000, "step": 500, "seconds": 5.0},
    }
    told = facts({"stages": stages, "status": "stopped"})
    assert told["steps"] == "ae 1,000, gan 500 of 2,000"
    assert told["time"] == "10 s"


def test_long_curves_are_thinned_to_their_means(tmp_path):
    from reprkit.reporting.folder import read_trace

    log(tmp_path, *({"step": step, "loss": step % 2} for step in range(4000)))
    steps, values = read_trace(tmp_path).curves["loss"]
    assert len(steps) == 400
    assert np.allclose(values, 0.5)


def test_what_was_left_out_of_the_data_is_told(tmp_path):
    lines = [f"line {number}".encode() for number in range(200)]
    for place in range(0, 200, 8):
        lines[place] = b"caf\xe9 <i>"
    (tmp_path / "set.txt").write_bytes(b"\n".join(lines))
    train, test = rk.dataset(f"lines(path={str(tmp_path / 'set.txt')!r}, max_corrupt=0.2)").split()
    model = rk.build(data=train, encoder="gru", latent="gaussian(dim=2)", decoder="gru")
    for step in rk.loop(model, train, steps=1, batch=8, lr=1e-3, out=tmp_path / "run"):
        step.backward(step.model(step.batch).total)
        step.update()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["skipped_count"] == 25
    results = rk.evaluate(model, test, "reconstruction")
    _, text = checked(rk.report(tmp_path / "run", results))
    assert text.count("because they could not be read: 25; the first 20 are named") == 1
    assert text.count("set.txt:9 ") == 1
    assert text.count("no valid UTF-8") == 20
    assert "set.txt:161" not in text
    named = [{"name": "a<b>.png", "why": "<oops> & more"}]
    facts = {
        "name": "pets",
        "size": 3,
        "signature": {},
        "skipped": named,
        "skipped_count": 1,
        "alphabet": "xyz" * 200,
    }
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "run.json").write_text(json.dumps({"data": facts}))
    _, text = checked(rk.report(tmp_path / "two"))
    assert "because they could not be read: 1." in text
    assert "a<b>.png" in text
    assert "<oops> & more" in text
    assert "xyz" not in text
