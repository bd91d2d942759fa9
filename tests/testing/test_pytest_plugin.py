"""The fixtures and markers for plugin authors."""

import subprocess
import sys
import textwrap

import pytest

import reprkit as rk
from reprkit.registry.registry import default_registry

CONFTEST = 'pytest_plugins = ["reprkit.testing.pytest_plugin"]'
TESTS = """
    import os
    import pytest
    import reprkit as rk
    from reprkit import Spec, hookimpl
    from reprkit.testing import LatentConformance

    class TestPlain(LatentConformance):
        part = "continuous(dim=2)"

    class Mine:
        @hookimpl
        def reprkit_latents(self):
            yield Spec("mine", "reprkit.latents.continuous:Continuous")

    def test_registered(registry):
        registry.register(Mine(), name="my-parts")
        assert rk.create("latent", "mine(dim=3)").out_dim == 3
        assert rk.create("latent", "mine").qualified == "my-parts/mine"

    def test_forgotten(registry):
        assert "mine" not in {each.name for each in registry.specs("latent")}
        assert {each.distribution for each in registry.specs("latent")} == {"reprkit"}

    def world(rank, base):
        return base + rank, os.environ["WORLD_SIZE"]

    def test_ranks(ranks):
        assert ranks(2, world, 10) == [(10, "2"), (11, "2")]
"""


def run(folder, *args):
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)


@pytest.fixture
def folder_of_tests(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_mine.py").write_text(textwrap.dedent(TESTS))
    return tmp_path


@pytest.mark.ranks
@pytest.mark.slow
def test_the_tests_of_a_plugin_run(folder_of_tests):
    done = run(folder_of_tests, "-rA")
    assert done.returncode == 0, done.stdout
    passed = {line.rpartition("::")[2] for line in done.stdout.splitlines() if line.startswith("PASSED ")}
    own = {"test_registered", "test_forgotten", "test_ranks"}
    of_the_kit = {"test_gradients_reach_every_parameter", "test_two_ranks_equal_one_process"}
    assert own | of_the_kit <= passed, done.stdout


@pytest.mark.slow
def test_tests_that_start_processes_are_marked(folder_of_tests):
    done = run(folder_of_tests, "--collect-only", "-m", "ranks")
    names = [line.rpartition("::")[2] for line in done.stdout.splitlines() if "::" in line]
    assert names == ["test_two_ranks_equal_one_process", "test_ranks"], done.stdout


def test_the_registry_fixture_isolates_the_default_registry(registry):
    assert default_registry() is registry
    with pytest.raises(rk.ReprkitError):
        rk.create("latent", "mine")
