"""``rk.report`` of one run and of several runs."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from page_checks import LINES, MEASURES, RECORD, check_page, write_run

import reprkit as rk
from reprkit.reporting import compare
from reprkit.reporting.page import format_number
from reprkit.runs.results import Results


def headings_of(path):
    """The headings of a page's first table, without units."""
    head = re.search(r"<thead[^>]*>.*?</thead>", path.read_text())[0]
    cells = re.findall(r"<th[^>]*>(.*?)</th>", head)
    return [re.sub(r"<small>.*?</small>|<[^>]*>", "", cell) for cell in cells]


def test_a_run_on_one_page(trained, tmp_path):
    _, _, models = trained
    results = models["gaussian(dim=4)"][1]
    write_run(tmp_path, *LINES, **RECORD)
    path = rk.report(tmp_path, results)
    assert path == tmp_path / "report.html"
    page, text = check_page(path)
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
    for words in (
        "gaussian(dim=4) on digits",
        RECORD["command"],
        "3 min 20 s",
        "torch 2.11.0",
        "seed 7",
        "20",
        format_number(results["reconstruction"]["error"]),
        format_number(results["knn"]["accuracy"]),
        "total loss",
        "kl",
        "usage",
        "Principal components",
        "Variance of each dimension",
        "Confusion matrix of the linear probe",
        "reprkit/gaussian(dim=4)",
        "8 × 8 × 1",
        "0 to 1",
        "dimension 3",
    ):
        assert words in re.sub(r"\s+", " ", text), words
    assert "secret" not in text
    assert "4242" not in text
    assert "mse, " not in text
    assert text.count("8 × 8 × 1") == 3  # below the title, of the decoder, in the table of data
    assert "trained on digits (train), 240 examples · evaluated on digits (test), 60 examples" in text
    pictures = [source for source in page.sources if source.startswith("data:image/png")]
    assert len(pictures) >= 16 * 3 + 4 * 9
    written = json.loads((tmp_path / "results.json").read_text())
    assert written == json.loads(json.dumps(results))


def test_training_and_evaluation_share_a_chart(trained, tmp_path):
    write_run(tmp_path, *LINES)
    _, text = check_page(rk.report(tmp_path, trained[2]["gaussian(dim=4)"][1]))
    html = (tmp_path / "report.html").read_text()
    assert html.count("<b>error</b>") == 1
    assert "Dashed: evaluations during training" in text
    assert html.count("stroke-dasharray") >= 1
    assert "<b>learning rate</b>" not in html  # it is constant


def test_equal_names_of_different_metrics_stay_apart(tmp_path):
    results = {
        "knn": {"accuracy": 0.5, "n": 9},
        "linear-probe": {"accuracy": 0.6},
        "codebook": {"a.usage": 0.7},
    }
    terms = {"a.kl": 1.0, "b.kl": 2.0}
    write_run(
        tmp_path,
        *(
            {"step": s, "loss": s, "terms": terms, "metrics": {"a.usage": 1}, "results": results}
            for s in (1, 2)
        ),
    )
    rk.report(tmp_path)
    titles = re.findall(r"<figcaption><b>(.*?)</b>", (tmp_path / "report.html").read_text())
    assert titles == [
        "total loss", "a.kl", "b.kl", "a.usage (training)", "knn accuracy", "linear-probe accuracy", "a.usage (evaluated)",
    ]  # fmt: skip


def test_a_report_without_results_and_run(tmp_path):
    page, text = check_page(rk.report(tmp_path / "new", {}))
    assert "Nothing was measured" in text
    assert "nothing was logged" in text
    assert "torch" in text  # of this process
    assert page.headings == ["Results", "Training", "How it was made"]


def test_results_are_read_from_the_folder(trained, tmp_path):
    _, test, models = trained
    model, results = models["binary(bits=6)"]
    first = rk.report(tmp_path, results).read_text().partition("Made by")[0]
    _, text = check_page(rk.report(tmp_path))
    assert format_number(results["reconstruction"]["error"]) in text
    assert (tmp_path / "report.html").read_text().partition("Made by")[0] == first
    (tmp_path / "figures.npz").unlink()
    _, text = check_page(rk.report(tmp_path))
    assert format_number(results["reconstruction"]["error"]) in text
    assert "No pictures" in text
    model.train()
    page, _ = check_page(rk.report(tmp_path, model=model, data=test))
    assert "Samples from the prior" in page.headings
    assert "Parts and parameters" in page.headings
    assert model.training


def test_damaged_files_are_noted_and_not_fatal(trained, tmp_path):
    write_run(tmp_path, *LINES)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 30, "lo')
    (tmp_path / "run.json").write_text("{")
    (tmp_path / "results.json").write_text("[")
    _, text = check_page(rk.report(tmp_path))
    assert "results.json is damaged" in text
    assert "run.json is damaged" in text
    assert "total loss" in text


@pytest.mark.slow
def test_several_runs_on_one_page(trained, tmp_path):
    train, test, models = trained
    table = {"PCA, 4 dimensions": rk.evaluate("pca(dim=4)", test, *MEASURES, fit_on=train)}
    table |= {name: results for name, (_, results) in models.items()}
    for seed, name in enumerate(models):
        write_run(tmp_path / str(seed), *LINES, **{**RECORD, "seed": seed})
        rk.report(tmp_path / str(seed), table[name])
    path = rk.report(tmp_path, table, title="Latents", verdict="One network.")
    _, text = check_page(path)
    text = re.sub(r"\s+", " ", text)
    assert headings_of(path) == [
        "as given", "reconstruction error ↓", "rate", "linear probe ↑", "k-NN ↑", "usage (evaluated) ↑",
    ]  # fmt: skip
    for name in table:
        assert name in text
    assert "One network." in text
    # One row of inputs, then one row per run.
    assert path.read_text().count('alt="input 1"') == 1
    assert all(path.read_text().count(f'alt="{name} 1"') >= 1 for name in table)
    assert text.count("Principal components. 60 examples.") == len(table)
    assert "Confusion matrix of the linear probe" not in text  # the figure is marked as a detail
    assert text.count("has no prior;") == 1
    assert "seed" in text  # differs, so it is in a table
    assert text.count(RECORD["command"]) == 1  # equal, so it is shown once
    assert set(json.loads((tmp_path / "results.json").read_text())) == set(table)
    _, again = check_page(rk.report(tmp_path))  # read back as several runs
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
    assert headings_of(tmp_path / "report.html") == ["as given", "error, squared ↓"]
    assert "PCA-8, published" in (tmp_path / "report.html").read_text()
    assert "PCA-8" not in (tmp_path / "results.json").read_text()


def test_a_table_for_the_terminal():
    runs = {
        "pca": {"reconstruction": {"error": 1.5}, "knn": {"accuracy": 0.9}},
        "vq": {"reconstruction": {"error": 0.5}},
    }
    assert str(compare(runs)).splitlines() == [
        "     reconstruction error ↓  k-NN ↑",
        "───────────────────────────────────",
        "pca                   1.500   0.900",
        "vq                    0.500       –",
    ]
    assert compare(runs).best == {"reconstruction error": "min", "k-NN": "max"}
    assert compare({"a": {"mine": {"score": 1}}}).columns == ["mine.score"]


def test_seeds_are_one_row_with_a_deviation(tmp_path):
    """Three runs under one name: mean ± deviation in the table, a band around the curve; the same page when read back."""
    seeds = []
    for seed, error in enumerate((1.0, 2.0, 3.0)):
        lines = [
            {"step": step, "loss": error + step, "terms": {"reconstruction": error + step}} for step in (1, 2)
        ]
        write_run(tmp_path / f"vq{seed}", *lines, **{**RECORD, "seed": seed})
        seeds.append(Results({"reconstruction": {"error": error}}))
        rk.report(tmp_path / f"vq{seed}", seeds[-1])
    table = {"pca": {"reconstruction": {"error": 1.5}}, "vq": seeds}
    path = rk.report(tmp_path / "all", table)
    first, text = check_page(path)
    assert "2.000 ± 1" in text
    assert "standard deviation of 3 seeds" in text
    assert "Bands: standard deviation over seeds" in text
    assert "pca: 1.5 ± 0, vq: 2 ± 1" in path.read_text()  # the text alternative of the bars
    assert "vq loss: 3 at 1 to 4 at 2" in path.read_text()  # of the mean curve
    assert set(json.loads((tmp_path / "all" / "results.json").read_text())) == {
        "pca", "vq, seed 0", "vq, seed 1", "vq, seed 2",
    }  # fmt: skip
    again, text = check_page(rk.report(tmp_path / "all"))
    assert again.headings == first.headings
    assert "2.000 ± 1" in text
    assert "vq" in str(compare(table))
    assert "2.000 ± 1" in str(compare(table))


def test_losses_of_single_models_are_apart(tmp_path):
    """The reconstruction of all models is in one chart, also where it is the whole loss; kl and the totals are apart."""
    whole = [{"step": s, "loss": 9 - s, "terms": {"reconstruction": 9 - s}} for s in (1, 2)]
    parts = [{"step": s, "loss": 9 - s, "terms": {"reconstruction": 7 - s, "kl": 2}} for s in (1, 2)]
    for name, lines in (("vq", whole), ("gaussian", parts)):
        write_run(tmp_path / name, *lines)
    rk.report(tmp_path, {name: {"knn": {"accuracy": 0.5}} for name in ("vq", "gaussian")})
    html = (tmp_path / "report.html").read_text()
    shared, _, own = html.partition("Losses of single models</h2>")
    assert re.findall(r"<figcaption><b>(.*?)</b>", shared) == ["reconstruction"]
    assert "vq terms.reconstruction: 8 at 1 to 7 at 2; gaussian terms.reconstruction: 6 at 1" in re.sub(
        r", between [^;.]*", "", shared
    )
    assert re.findall(r"<figcaption><b>(.*?)</b>", own) == ["total loss", "kl"]


@pytest.mark.slow
def test_names_of_classes_are_on_the_page(tmp_path):
    frame = pd.DataFrame({"a": range(40), "b": [1.0, 5.0] * 20, "label": ["tex", "scene"] * 20})
    train, test = rk.dataset(frame).split(seed=0)
    measured = rk.evaluate("pca(dim=1)", test, "linear-probe", "projection(tsne=False)", fit_on=train)
    html = rk.report(tmp_path, measured).read_text()
    legend = re.search(r'<div class="legend">(.*?)</div>', html)[1]
    assert [re.sub("<[^>]*>", "", entry) for entry in legend.split("</span>")] == ["scene", "tex", ""]
    assert "Diagonal: scene: " in html  # of the confusion matrix
    assert "scene, tex</td>" in html  # in the table of fields


@pytest.mark.slow
def test_a_page_of_photos_is_small(tmp_path):
    """Five models with galleries of 16 photos of 160 × 160: under 3 MB."""
    rng = np.random.default_rng(0)
    smooth = rng.random((48, 20, 20, 3)).repeat(8, 1).repeat(8, 2) * 0.8 + rng.random((48, 160, 160, 3)) * 0.1
    data = rk.dataset(smooth.astype(np.float32))
    table = {
        f"PCA {dim}": rk.evaluate(f"pca(dim={dim})", data, "reconstruction", fit_on=data)
        for dim in range(4, 9)
    }
    size = rk.report(tmp_path, table).stat().st_size
    assert 200_000 < size < 3_000_000
