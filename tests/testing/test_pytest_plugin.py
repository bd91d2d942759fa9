"""The fixtures and marks that plugin authors get."""

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
def author(tmp_path):
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_mine.py").write_text(textwrap.dedent(TESTS))
    return tmp_path


@pytest.mark.ranks
@pytest.mark.slow
def test_an_authors_tests_run(author):
    done = run(author)
    assert done.returncode == 0, done.stdout
    assert "14 passed, 3 skipped" in done.stdout


def test_what_starts_processes_is_marked(author):
    done = run(author, "--collect-only", "-m", "ranks")
    names = [line.rpartition("::")[2] for line in done.stdout.splitlines() if "::" in line]
    assert names == ["test_two_ranks_equal_one_process", "test_ranks"], done.stdout


def test_the_fixture_leaves_the_real_registry_alone(registry):
    assert default_registry() is registry
    with pytest.raises(rk.ReprkitError):
        rk.create("latent", "mine")
