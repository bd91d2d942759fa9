"""Runs grouped by all but the seed: means and deviations, names, baselines, order."""

import json
import math
import statistics

import pytest

from reprkit.errors import TrainingError
from reprkit.reporting.comparison import comparison_table, to_json, write_comparison
from reprkit.runs.comparison import read_groups, sort_groups


@pytest.fixture
def write(tmp_path):
    def call(name, accuracy, latent="vq", seed=0, status="finished", seconds=2.0, **stage):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        model = {
            "factors": {"code": {"encoder": "reprkit/mlp", "latent": f"reprkit/{latent}"}},
            "decoder": "mlp",
        }
        main = {
            "model": model,
            "steps": 5,
            "lr": 0.1,
            "status": status,
            "step": 5,
            "seconds": seconds,
            **stage,
        }
        data = {"name": "digits (train)", "reference": "reprkit/digits", "seed": seed}
        record = {"status": status, "seed": seed, "data": data, "stages": {"main": main}}
        (folder / "run.json").write_text(json.dumps(record))
        results = {"knn": {"accuracy": accuracy, "n": 10}}
        (folder / "results.json").write_text(json.dumps(results))
        return folder

    return call


def test_seeds_become_a_mean_with_its_deviation(write, tmp_path):
    values = [0.5, 0.75, 0.7]
    for seed, value in enumerate(values):
        write(f"vq-{seed}", value, seed=seed, seconds=1.0 + seed)
    write("binary", 0.25, latent="binary")
    groups = {group.name: group for group in read_groups([tmp_path / "runs"])}
    assert list(groups) == ["binary", "vq"]
    found = groups["vq"].metrics["knn.accuracy"]
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.deviation == pytest.approx(statistics.stdev(values))
    assert (found.count, groups["vq"].seeds, groups["vq"].seconds) == (3, [0, 1, 2], 2.0)
    assert math.isnan(groups["binary"].metrics["knn.accuracy"].deviation)
    text = str(comparison_table(list(groups.values())))
    assert "0.650 ± 0.13" in text
    assert "Mean ± standard deviation of 3 seeds." in comparison_table(list(groups.values())).html()
    exported = to_json(list(groups.values()))[1]["metrics"]["knn.accuracy"]
    assert exported == {"mean": pytest.approx(0.65), "deviation": pytest.approx(0.1322876), "count": 3}


def test_groups_are_named_by_what_differs(write, tmp_path):
    write("a", 0.5)
    write("b", 0.6, lr=0.2)
    write("c", 0.7, latent="binary")
    assert [group.name for group in read_groups([tmp_path / "runs"])] == [
        "vq, lr=0.1",
        "vq, lr=0.2",
        "binary, lr=0.1",
    ]


def test_runs_with_equal_settings_and_seed_are_not_averaged(write, tmp_path):
    first, second = write("a", 0.5), write("b", 0.6)
    groups = read_groups([first, second, first])
    assert [group.name for group in groups] == [f"vq ({first})", f"vq ({second})"]
    assert [group.metrics["knn.accuracy"].mean for group in groups] == [0.5, 0.6]


def test_rows_without_a_run_are_baselines_and_equal_ones_are_joined(write, tmp_path):
    for latent in ("vq", "binary"):
        for seed in (0, 1):
            write(f"{latent}/{seed}/trained", 0.5 + seed / 10, latent=latent, seed=seed)
            folder = tmp_path / "runs" / latent / str(seed)
            rows = {
                "raw": {"knn": {"accuracy": 0.2 + seed / 10}},
                "untrained": {"knn": {"accuracy": (0.3 if latent == "vq" else 0.4) + seed / 10}},
                "trained": {"knn": {"accuracy": 0.5 + seed / 10, "n": 10}},
            }
            (folder / "results.json").write_text(json.dumps(rows))
    found = {group.name: group.metrics["knn.accuracy"] for group in read_groups([tmp_path / "runs"])}
    assert {name: round(value.mean, 6) for name, value in found.items()} == {
        "raw": 0.25, "untrained, vq": 0.35, "untrained, binary": 0.45, "vq": 0.55, "binary": 0.55,
    }  # fmt: skip
    assert {value.count for value in found.values()} == {2}


def test_unfinished_runs_are_shown_as_such(write, tmp_path):
    write("a", 0.5, status="failed")
    (group,) = read_groups([tmp_path / "runs"])
    assert group.states == ["seed 0 failed"]
    assert "seed 0 failed" in str(comparison_table([group]))


def test_sorting(write, tmp_path):
    for name, value in (("vq", 0.5), ("binary", 0.7), ("fsq", 0.6)):
        write(name, value, latent=name)
    groups = read_groups([tmp_path / "runs"])
    assert [group.name for group in sort_groups(groups, "knn.accuracy")] == ["vq", "fsq", "binary"]
    assert [group.name for group in sort_groups(groups, "-knn.accuracy")] == ["binary", "fsq", "vq"]
    with pytest.raises(TrainingError, match=r"Did you mean 'knn.accuracy'\?"):
        sort_groups(groups, "knn.accurac")


def test_what_is_no_run_is_refused_and_damaged_files_are_not_fatal(write, tmp_path):
    with pytest.raises(TrainingError, match="there is no folder"):
        read_groups([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="no runs in or below"):
        read_groups([tmp_path / "empty"])
    folder = write("a", 0.5)
    (folder / "results.json").write_text("{")
    (group,) = read_groups([folder])
    assert group.metrics == {}
    (folder / "run.json").write_text("[]")
    assert len(read_groups([folder])) == 1


def test_damaged_results_of_a_comparison_raise_a_warning(write, tmp_path):
    write("vq/trained", 0.5)
    (tmp_path / "runs" / "vq" / "results.json").write_text("{")
    with pytest.warns(
        UserWarning, match=r"baselines are left out of the comparison: .*results.json is damaged"
    ):
        (group,) = read_groups([tmp_path / "runs"])
    assert group.metrics["knn.accuracy"].mean == 0.5


def test_the_page_is_not_replaced_unasked(write, tmp_path):
    write("a", 0.5)
    groups = read_groups([tmp_path / "runs"])
    page = write_comparison(groups, tmp_path / "new/page.html")
    with pytest.raises(TrainingError, match="exists already"):
        write_comparison(groups, page)
    assert write_comparison(groups, page, overwrite=True) == page
