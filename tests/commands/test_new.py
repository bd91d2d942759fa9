"""``reprkit new``: the files it writes, the names it refuses; tests/plugins/test_strangers.py installs the result."""

import ast
import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from reprkit.commands import main, new
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.registry import Registry, using_registry

ROOT = Path(main.__file__).parents[2]


@pytest.fixture
def run(capsys):
    def call(*args):
        with using_registry(Registry(installed=False)), pytest.raises(SystemExit) as stopped:
            main.main(["new", *map(str, args)])
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return call


@pytest.mark.parametrize("kind", new.EXAMPLES)
def test_every_kind_is_written(kind, run, tmp_path):
    code, out, err = run("acme-things", "--kind", kind, "--into", tmp_path)
    assert (code, err) == (0, "")
    folder = tmp_path / "acme-things"
    example = new.EXAMPLES[kind]
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == {
        "pyproject.toml",
        "README.md",
        ".gitignore",
        "src/acme_things/__init__.py",
        "src/acme_things/plugin.py",
        f"src/acme_things/{example.file}.py",
        "tests/test_acme_things.py",
    }
    assert f"acme-things/{example.part}" in out
    assert "reprkit check acme-things" in out
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["reprkit"] == {"acme-things": "acme_things.plugin"}
    assert project["project"]["dependencies"][0].startswith("reprkit")
    for path in folder.rglob("*"):
        if path.is_file():
            assert "$" not in path.read_text(), f"{path} has a placeholder left"
    plugin = ast.parse((folder / "src/acme_things/plugin.py").read_text())
    hooks = [each.name for each in plugin.body if isinstance(each, ast.FunctionDef)]
    assert hooks == [KINDS[kind]]
    imported = {node.module for node in ast.walk(plugin) if isinstance(node, ast.ImportFrom)}
    assert imported == {"collections.abc", "reprkit"}


@pytest.mark.skipif(find_spec("ruff") is None, reason="needs the extra lint")
@pytest.mark.parametrize("name", ["a", "acme-latents", "a-distribution-of-forty-characters-1234"])
def test_written_files_pass_the_linter(name, tmp_path):
    for kind in new.EXAMPLES:
        new.write(name, kind, tmp_path / kind / name)
    config = ["--config", str(ROOT / "pyproject.toml")]
    ruff = [sys.executable, "-m", "ruff"]
    rules = ["--extend-per-file-ignores", "test_*.py:D"]
    process = subprocess.run(
        [*ruff, "check", *config, *rules, "."], cwd=tmp_path, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout
    if name == "acme-latents":  # where lines break depends on the name's length
        process = subprocess.run(
            [*ruff, "format", *config, "--diff", "."], cwd=tmp_path, capture_output=True, text=True
        )
        assert process.returncode == 0, process.stdout


@pytest.mark.slow
def test_written_files_pass_mypy(tmp_path):
    for kind in new.EXAMPLES:
        new.write(f"acme-{kind}", kind, tmp_path / kind)
    sources = [str(path) for path in tmp_path.glob("*/src/*/*.py") if path.name != "__init__.py"]
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *sources]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout


def test_json(run, tmp_path):
    found = json.loads(run("acme", "--into", tmp_path, "--json")[1])
    assert found["part"] == "acme/fsq"
    assert found["kind"] == "latent"
    assert all((tmp_path / "acme" / each).is_file() for each in found["files"])


def test_nothing_is_overwritten(run, tmp_path):
    (tmp_path / "acme").mkdir()
    assert run("acme", "--into", tmp_path)[0] == 0, "an empty folder is fine"
    source = tmp_path / "acme" / "src/acme/fsq.py"
    source.write_text("mine")
    code, out, err = run("acme", "--into", tmp_path)
    assert (code, out) == (1, "")
    assert "exists already and is not empty; nothing was written" in err
    assert source.read_text() == "mine"
    (tmp_path / "file").write_text("")
    assert run("file", "--into", tmp_path)[0] == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Acme_Latents", "Did you mean 'acme-latents'?"),
        ("acme--latents", "Did you mean 'acme-latents'?"),
        ("1acme", "is not a plugin's name"),
        ("../acme", "Did you mean 'acme'?"),
        ("a" * 41, "longer than 40"),
        ("json", "which is taken"),
        ("class", "which is taken"),
        ("reprkit", "which is taken"),
        ("torch", "a module called 'torch' is installed already"),
    ],
)
def test_names_are_checked(name, message, run, tmp_path):
    code, out, err = run("--into", tmp_path, "--", name)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert list(tmp_path.iterdir()) == []


def test_names_of_installed_plugins_are_refused(site, run, tmp_path):
    site.add("acme-latents", entry_points={"acme": "nowhere"})
    code, _, err = run("acme-latents", "--into", tmp_path / "new")
    assert code == 2
    assert "reprkit plugins --why acme-latents" in " ".join(err.split())


def test_kinds_are_checked(run, tmp_path):
    code, _, err = run("acme", "--kind", "latnt", "--into", tmp_path)
    assert (code, "Did you mean 'latent'?" in err) == (2, True)
    code, _, err = run("acme", "--kind", "command", "--into", tmp_path)
    assert (code, "no template for a command" in " ".join(err.split())) == (2, True)
    assert run("acme", "--kind", "latents", "--into", tmp_path)[0] == 0


def test_every_kind_of_part_has_a_template():
    assert set(new.EXAMPLES) == set(KINDS) - {"command"}
    used = {path.parent.name for path in new.TEMPLATES.glob("*/*.tmpl")}
    assert used == set(new.EXAMPLES)
