"""The notebooks in examples/ run from top to bottom in an empty folder, and hold no outputs."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples").glob("*.ipynb"))


def cells(notebook):
    """The code of each code cell."""
    return [
        "".join(cell["source"])
        for cell in json.loads(notebook.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]


def run_cell(code, names, where):
    """Run a cell as a notebook does: the value of a last expression is shown."""
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), names)
    if last is None:
        return ""
    value = eval(compile(ast.Expression(last.value), where, "eval"), names)
    return value._repr_html_() if hasattr(value, "_repr_html_") else repr(value)


def test_notebooks_are_small_and_hold_no_outputs():
    assert [notebook.name[0] for notebook in NOTEBOOKS] == ["1", "2", "3", "4", "5"]
    for notebook in NOTEBOOKS:
        assert notebook.stat().st_size < 100_000
        for cell in json.loads(notebook.read_text())["cells"]:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_runs(notebook, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    shown = [
        run_cell(code, names, f"{notebook.name}, cell {index}")
        for index, code in enumerate(cells(notebook), 1)
    ]
    assert any("<table>" in html for html in shown)


def test_a_cell_shows_its_last_value():
    names = {}
    assert run_cell("a = 1", names, "cell") == ""
    assert run_cell("a += 1\na", names, "cell") == "2"
