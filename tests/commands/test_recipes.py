"""``reprkit recipes`` and ``reprkit run``: list, copy and run recipes, from a checkout and from a wheel."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from reprkit.commands import main, recipes

ROOT = Path(main.__file__).parents[2]
RECIPE = '''
"""A recipe for a test.

More of it.
"""
import sys
import typer
import beside

def main(latent: str = "vq", steps: int = 3, code: int = 0):
    print(latent, steps, beside.VALUE, __name__, sys.argv[0].endswith("mine.py"))
    if code:
        raise SystemExit(code)

if __name__ == "__main__":
    typer.run(main)
'''


@pytest.fixture
def mine(tmp_path):
    (tmp_path / "beside.py").write_text("VALUE = 7")
    path = tmp_path / "mine.py"
    path.write_text(RECIPE.lstrip())
    yield path
    sys.modules.pop("beside", None)


def test_the_recipes_are_listed(run):
    code, out, _ = run("recipes")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("latent_swap ")]
    first = (ROOT / "recipes/latent_swap.py").read_text().partition("\n")[0].strip('"')
    assert first in line
    found = {recipe["name"]: recipe for recipe in json.loads(run("recipes", "--json")[1])}
    assert set(found) == {path.stem for path in (ROOT / "recipes").glob("*.py")}
    assert Path(found["latent_swap"]["path"]).samefile(ROOT / "recipes/latent_swap.py")
    assert found["latent_swap"]["summary"] == first


def test_every_recipe_has_a_summary():
    assert [recipe.name for recipe in recipes.recipes() if not recipe.summary] == []


def test_a_recipe_is_copied_but_not_over_an_existing_file(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("recipes", "copy", "latent-swap")
    assert code == 0
    assert "reprkit run ./latent_swap.py" in out
    assert (tmp_path / "latent_swap.py").read_text() == (ROOT / "recipes/latent_swap.py").read_text()
    (tmp_path / "latent_swap.py").write_text("mine")
    code, _, err = run("recipes", "copy", "latent_swap")
    assert (code, "exists already; nothing was written" in err) == (1, True)
    assert (tmp_path / "latent_swap.py").read_text() == "mine"
    assert run("recipes", "copy", "latent_swap", "--to", tmp_path / "a" / "b.py")[0] == 0
    assert (tmp_path / "a/b.py").is_file()
    assert run("recipes", "copy", "latent_swap", "--to", tmp_path / "a")[0] == 0
    assert (tmp_path / "a/latent_swap.py").is_file()


def test_unknown_recipes(run):
    code, out, err = run("recipes", "copy", "latent_swop")
    assert (code, out) == (1, "")
    assert "no recipe named 'latent_swop'. Did you mean 'latent_swap'?" in err
    code, _, err = run("run", "latent_swop", "--steps", "3")
    assert (code, "reprkit run ./mine.py" in err) == (1, True)
    code, _, err = run("run", "./nowhere.py")
    assert (code, "there is no file ./nowhere.py" in err) == (1, True)
    assert run("run")[0] == 2


def test_a_file_is_run_with_its_own_flags(run, mine):
    before = sys.argv, list(sys.path)
    assert run("run", mine) == (0, "vq 3 7 __main__ True\n", "")
    assert run("run", mine, "--latent", "binary(bits=4)", "--steps", "5")[1].startswith("binary(bits=4) 5 7")
    assert run("run", mine, "--code", "5")[0] == 5
    code, _, err = run("run", mine, "--stepz", "5")
    assert (code, "No such option" in err) == (2, True)
    assert (sys.argv, sys.path) == before


def test_help_after_the_recipe_is_the_recipes(run, mine):
    assert "--latent" in run("run", mine, "--help")[1]
    out = run("run", "--help")[1]
    assert "--latent" not in out
    assert "torchrun" in out
    assert "--latents" in run("run", "latent_swap", "--help")[1]


def test_reprkit_errors_of_a_recipe_are_printed_without_traceback(run, tmp_path):
    (tmp_path / "bad.py").write_text("import reprkit as rk\nrk.create('latent', 'vqq')")
    code, _, err = run("run", tmp_path / "bad.py")
    assert code == 1
    assert err.startswith("error: no latent named 'vqq'. Did you mean 'vq'?")
    (tmp_path / "worse.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        main.main(["run", str(tmp_path / "worse.py")])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the files that a wheel is built from, since building leaves files behind."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root)
    for name in ("reprkit", "recipes"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def pip(*args, **options):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, **options)
    assert done.returncode == 0, done.stderr
    return done


def reprkit_in(folder, *args):
    """Run the command line of the reprkit that is installed in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "reprkit", *args]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=120)


@pytest.mark.slow
def test_the_wheel_contains_recipes_and_templates(tree, tmp_path):
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", wheels, tree)
    (wheel,) = wheels.glob("reprkit-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"reprkit/_recipes/{path.name}" for path in (ROOT / "recipes").glob("*.py")} <= names
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "reprkit/templates").rglob("*.tmpl")}
    assert templates <= names
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "reprkit").rglob("*.py")}
    assert sources <= names, "a package is not in the wheel"
    assert {"reprkit/py.typed", "reprkit/reporting/page.css"} <= names
    assert not {name for name in names if name.startswith(("recipes", "tests", "docs"))}
    pip("install", "--no-deps", "--no-index", "--target", site, wheel)
    done = reprkit_in(site, "recipes", "--json")
    found = {recipe["name"]: recipe["path"] for recipe in json.loads(done.stdout)}
    assert found["latent_swap"] == str(site / "reprkit/_recipes/latent_swap.py")
    assert reprkit_in(site, "new", "acme-latents").returncode == 0
    assert "--latents" in reprkit_in(site, "run", "latent_swap", "--help").stdout


@pytest.mark.slow
def test_an_editable_install_finds_the_checkouts_recipes(tree, tmp_path):
    site = tmp_path / "site"
    pip(
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--prefix",
        site,
        "--ignore-installed",
        "-e",
        tree,
    )
    (packages,) = site.rglob("site-packages")
    code = (
        # -S: without this environment's editable reprkit; its other packages are appended.
        f"import site, sys; site.addsitedir({str(packages)!r}); sys.path.append({sysconfig.get_path('purelib')!r})\n"
        "from reprkit.commands.recipes import recipes\nprint(*[each.path for each in recipes()])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert str(tree / "recipes/latent_swap.py") in done.stdout, done
