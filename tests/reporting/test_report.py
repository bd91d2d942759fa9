"""``rk.report`` of one run and of several runs."""

import json
import re

import pytest
from page_checks import LINES, MEASURES, RECORD, check_page, write_run

import reprkit as rk
from reprkit.reporting import compare
from reprkit.reporting.page import format_number


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
    assert text.count("8 × 8 × 1") == 1
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
    assert titles == ["total loss", "a.kl", "b.kl", "a.usage", "knn accuracy", "linear-probe accuracy"]


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
