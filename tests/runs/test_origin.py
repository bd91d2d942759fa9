"""What made a run: source, packages and git commit, beside the record."""

import importlib.metadata
import shutil
import subprocess

import pytest

from reprkit.runs import origin
from reprkit.runs.origin import Recipe, git_commit, installed_packages, read_packages, record_origin


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe of its own folder, which this process runs."""
    file = tmp_path / "mine" / "train.py"
    file.parent.mkdir()
    file.write_text("print(1)\n")
    made = Recipe(file, ["--steps", "3"], out="runs/x", has_flags=True, resumable=True)
    monkeypatch.setattr(origin, "find_recipe", lambda: made)
    return made


def test_packages_are_those_that_are_installed(tmp_path):
    found = installed_packages()
    for name in ("torch", "numpy", "reprkit", "annotated-types"):
        assert found[name] == importlib.metadata.version(name), name
    record_origin(tmp_path)
    assert read_packages(tmp_path) == found
    assert read_packages(tmp_path / "nothing") == {}


def test_source_and_arguments_are_recorded(tmp_path, recipe):
    out = tmp_path / "out"
    found = record_origin(out)["recipe"]
    assert (found["name"], found["arguments"], found["out"]) == ("train", ["--steps", "3"], "runs/x")
    assert (out / found["file"]).read_text() == "print(1)\n"
    assert record_origin(out)["recipe"] == found
    recipe.file.write_text("print(2)\n")
    changed = record_origin(out)["recipe"]
    assert changed["sha256"] != found["sha256"]
    assert [(out / each["file"]).read_text() for each in (found, changed)] == ["print(1)\n", "print(2)\n"]


def test_a_folder_of_that_name_is_left_alone(tmp_path, recipe):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "train.py").write_text("mine")
    found = record_origin(tmp_path)
    assert "file" not in found["recipe"]
    assert "packages" not in found
    assert [path.name for path in (tmp_path / "source").iterdir()] == ["train.py"]
    assert (tmp_path / "source" / "train.py").read_text() == "mine"


def test_a_test_run_is_no_recipe():
    assert origin.find_recipe() is None


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_and_changes_since_are_recorded(tmp_path):
    def git(*arguments):
        settings = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *settings, "-C", tmp_path, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert git_commit(tmp_path) is None
    git_commit.cache_clear()
    git("init", "-q")
    (tmp_path / "a.txt").write_text("1")
    git("add", "a.txt")
    git("commit", "-q", "-m", "first")
    # A program that the checkout's settings name is not started.
    git("config", "core.fsmonitor", f"touch {tmp_path / 'started'}")
    (tmp_path / "untracked.txt").write_text("2")
    commit = git("-c", "core.fsmonitor=false", "rev-parse", "HEAD")
    assert git_commit(tmp_path) == {"commit": commit, "changed": False}
    git_commit.cache_clear()
    (tmp_path / "a.txt").write_text("2")
    assert git_commit(tmp_path) == {"commit": commit, "changed": True}
    git_commit.cache_clear()
    assert not (tmp_path / "started").exists()
