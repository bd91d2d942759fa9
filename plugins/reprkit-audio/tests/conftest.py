import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("reprkit_audio") is None:
    # A machine where only reprkit itself is installed: its tests run, these need `pip install plugins/reprkit-audio`.
    collect_ignore_glob = ["test_*.py"]


def pytest_configure(config):
    """Reprkit's fixtures and marks, also where this is not the run's first conftest."""
    config.pluginmanager.import_plugin("reprkit.testing.pytest_plugin")


@pytest.fixture(autouse=True, scope="session")
def separate_cache(tmp_path_factory):
    """Tests neither read nor write the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPRKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def run_recipe(tmp_path):
    """run_recipe(name, {flag: value}) -> its results and what it printed; it runs in a process of its own, in ``tmp_path``."""

    def run(name, flags):
        recipe = Path(__file__).parents[3] / "recipes" / f"{name}.py"
        command = [
            sys.executable,
            str(recipe),
            *(f"--{flag}={value}" for flag, value in flags.items()),
            "--out=run",
        ]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=280
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads((tmp_path / "run/results.json").read_text()), done.stdout

    return run
