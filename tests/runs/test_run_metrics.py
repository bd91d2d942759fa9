"""Flattened metrics: the same numbers in memory, in files, on the page, in the card and in the commands."""

import json
import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

import reprkit as rk
from reprkit.commands.main import main
from reprkit.errors import DataError
from reprkit.evaluation import Results
from reprkit.reporting.page import Table, format_number
from reprkit.runs.metrics import (
    finite_metrics,
    flatten_metrics,
    format_significant,
    iterate_leaves,
    to_json_value,
    to_python_scalar,
)
from reprkit.runs.run import Run

# name -> (the value returned by an evaluator, its number; None if not finite)
NUMBERS = {
    "float": (0.25, 0.25),
    "int": (1797, 1797),
    "numpy32": (np.float32(0.5), 0.5),
    "numpy64": (np.float64(0.75), 0.75),
    "numpy_int": (np.int64(3), 3),
    "numpy_array": (np.array([[2.5]]), 2.5),
    "torch": (torch.tensor(1.5, requires_grad=True), 1.5),
    "torch_half": (torch.tensor([1.25], dtype=torch.bfloat16), 1.25),
    "torch_int": (torch.tensor(7), 7),
    "fraction": (Fraction(1, 8), 0.125),
    "nan": (float("nan"), None),
    "infinite": (float("inf"), None),
    "numpy_nan": (np.float32("nan"), None),
    "null": (None, None),
}
REFUSED = {
    "text": "x",
    "numpy_text": np.str_("x"),
    "yes": True,
    "numpy_no": np.bool_(False),
    "torch_yes": torch.tensor(True),
    "array": np.zeros(3),
    "list": [1, 2],
    "complex": 1j,
    "figures": {"a": 1},
}
METRICS = {name: value for name, (value, _) in NUMBERS.items()}
FOUND = {"knn": {**METRICS, **REFUSED, "inner": {"deep.er": np.float32(4)}}}
EXPECTED = {f"knn.{name}": value for name, (_, value) in NUMBERS.items()} | {"knn.inner.deep.er": 4.0}


def same(found, expected=EXPECTED):
    """Assert equal names, numbers and types of numbers; None represents NaN."""
    numbers = {name: None if value is None or math.isnan(value) else value for name, value in found.items()}
    assert numbers == expected
    assert {name: type(value) for name, value in numbers.items()} == {k: type(v) for k, v in expected.items()}


def test_flatten_metrics():
    same(flatten_metrics(FOUND))
    same(Results(FOUND).flat)
    same(flatten_metrics(to_json_value(FOUND)))
    same(flatten_metrics(json.loads(json.dumps(to_json_value(FOUND), allow_nan=False))))
    assert list(flatten_metrics(FOUND)) == list(EXPECTED), "in the original order"
    assert finite_metrics(FOUND) == {name: value for name, value in EXPECTED.items() if value is not None}
    assert flatten_metrics({}) == {}
    assert flatten_metrics({1: 2, "a": {2: 3}}) == {"1": 2, "a.2": 3}


def test_other_values_are_preserved_in_json_or_omitted():
    converted = to_json_value(FOUND)["knn"]
    assert {name: converted[name] for name in REFUSED if name in converted} == {
        "text": "x", "numpy_text": "x", "yes": True, "numpy_no": False, "torch_yes": True
    }  # fmt: skip
    assert all(type(converted[name]) is bool for name in ("yes", "numpy_no", "torch_yes"))
    assert dict(iterate_leaves({"a": {"b": "x", "figures": {"c": 1}}, "d": [1]})) == {"a.b": "x", "d": [1]}
    assert to_json_value([1]) is None
    value = np.zeros(3)
    assert to_python_scalar(value) is value


def test_duplicate_names_are_rejected():
    with pytest.raises(DataError, match=r"two metrics are called 'a\.b'"):
        flatten_metrics({"a.b": 1, "a": {"b": 2}})
    assert flatten_metrics({"a.b": "text", "a": {"b": 2}}) == {"a.b": 2}


def test_report_accepts_every_kind_of_number():
    for given, value in NUMBERS.values():
        assert format_number(given) == (
            "–" if given is None or given != given else format_number(value or math.inf)
        )
    table = Table(["n"], {"a": [np.float32(1)], "b": [torch.tensor(2.0)], "c": [None]}, best={"n": "max"})
    cells = table.html().split("<tr>")[2:]
    assert ["num best" in each for each in cells] == [False, True, False]
    assert ['class="num' in each for each in cells] == [True, True, True]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A run that logged and reported FOUND."""
    out = tmp_path_factory.mktemp("runs") / "one"
    train, _ = rk.dataset("digits").subset(range(100)).split()
    model = rk.build(data=train, encoder="mlp(widths=(8,))", decoder="mlp(widths=(8,))")
    for step in rk.loop(model, train, steps=2, batch=16, out=out, best="max knn.numpy32", progress=False):
        losses = step.model(step.batch)
        step.backward(losses.total)
        step.update()
        if step.last:
            step.log(losses, FOUND)
    model.save(out / "model")
    rk.report(out, FOUND, baselines={"other": FOUND})
    return out


def cells_of_row(page, name):
    """Return the cells of a row of the page."""
    row = page.partition(f'<th scope="row">{name}</th>')[2].partition("</tr>")[0]
    return [each.partition(">")[2].partition("<")[0] for each in row.split("<td")[1:]]


def command(capsys, *args):
    with pytest.raises(SystemExit) as left:
        main(list(map(str, args)))
    assert not left.value.code
    return capsys.readouterr().out


def test_all_outputs_show_the_same_numbers(out, capsys):
    same(flatten_metrics(json.loads((out / "results.json").read_text())))
    line = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    same(flatten_metrics(line["results"]))
    run = Run(out)
    same(flatten_metrics(run.results))
    drawn = {name: values[-1] for name, (_, values) in run.curves().items() if name.startswith("results.")}
    assert drawn == {f"results.{name}": value for name, value in EXPECTED.items() if value is not None}

    first = (out / "report.html").read_text()
    rk.report(out)
    for page in (first, (out / "report.html").read_text()):
        for name, value in EXPECTED.items():
            shown = "–" if value is None else format_number(value)
            assert cells_of_row(page, name) == [shown, shown], (name, cells_of_row(page, name))
        for name in REFUSED:
            assert cells_of_row(page, f"knn.{name}") == []

    card = (out / "model" / "README.md").read_text()
    inspected = json.loads(command(capsys, "inspect", out, "--json"))["run"]
    same(inspected["metrics"])
    lines = [" ".join(each.split()) for each in command(capsys, "inspect", out / "model").splitlines()]
    for name, value in EXPECTED.items():
        shown = "–" if value is None else format_significant(value)
        assert f"| {name} | {shown} |" in card
        assert f"{name} {shown}" in lines
    for name in REFUSED:
        assert f"| knn.{name} |" not in card

    (row,) = json.loads(command(capsys, "runs", out, "--json"))
    assert (row["best"]["metric"], row["best"]["value"]) == ("knn.numpy32", 0.5)
    assert row["loss"] == line["loss"]
    assert inspected["best"]["main"]["value"] == 0.5


def test_readers_do_not_import_torch():
    code = (
        "import sys, reprkit.runs.reader, reprkit.runs.metrics, reprkit.checkpoints.reader\n"
        "print([name for name in ('torch', 'numpy', 'safetensors', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_packages_import_no_modules():
    code = "import sys, reprkit.runs, reprkit.checkpoints; print(*(n for n in sys.modules if n.startswith('reprkit')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["reprkit", "reprkit.runs", "reprkit.checkpoints"]
