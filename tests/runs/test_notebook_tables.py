"""Tables of results, runs and data sets in a notebook."""

import json
import re

import numpy as np
import pandas as pd

import reprkit as rk
from reprkit.runs.results import Results
from reprkit.runs.run import Run


def cells(html):
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]


def test_results_have_units_and_directions():
    html = Results({"knn": {"accuracy": 0.97, "<k>": 1}})._repr_html_()
    assert cells(html)[1:] == [
        ["knn.accuracy", "0.97", "share, 0 to 1", "higher"],
        ["knn.&lt;k&gt;", "1", "", ""],
    ]


def test_a_run_shows_status_and_last_numbers(tmp_path):
    record = {"status": "finished", "started": "2026-01-01", "stages": {"main": {"steps": 20, "step": 20}}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    (tmp_path / "metrics.jsonl").write_text('{"step": 20, "loss": 1.5}\n')
    (tmp_path / "results.json").write_text('{"knn": {"accuracy": 0.5}}')
    rows = cells(Run(tmp_path)._repr_html_())
    assert ["status", "finished"] in rows
    assert ["steps", "20"] in rows
    assert ["last loss", "1.5"] in rows
    assert ["knn.accuracy", "0.5", "share, 0 to 1", "higher"] in rows
    assert ["folder", "in memory"] in cells(Run(None, metrics=[])._repr_html_())


def test_a_data_set_shows_its_fields():
    frame = pd.DataFrame({"a": np.arange(30.0), "b": 1.5 + np.arange(30.0), "label": ["cat", "<dog>"] * 15})
    html = rk.dataset(frame)._repr_html_()
    assert "30 examples" in html
    rows = {row[0]: row[1:] for row in cells(html)}
    assert rows["label"] == ["label", "one number", "2 symbols", "&lt;dog&gt;, cat"]
    assert rows["x"][:2] == ["vector", "2"]
    assert ["x", "image", "8 × 8 × 1", "0 to 1", ""] in cells(rk.dataset("digits")._repr_html_())


def test_a_stream_has_no_number_of_examples():
    class Numbers(rk.data.Stream):
        signature = rk.Signature({"x": rk.Field(kind="vector", shape=(2,))})

        def read(self):
            return iter(())

        def decode(self, record):
            return record

    assert "a stream of examples" in Numbers()._repr_html_()
