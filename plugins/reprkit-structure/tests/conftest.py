import importlib.util

import pytest

if importlib.util.find_spec("reprkit_structure") is None:
    # Only reprkit itself is installed; these tests need `pip install plugins/reprkit-structure`.
    collect_ignore_glob = ["test_*.py"]


def pytest_configure(config):
    """Load reprkit's fixtures and marks, also if this is not the run's first conftest."""
    config.pluginmanager.import_plugin("reprkit.testing.pytest_plugin")


@pytest.fixture(autouse=True, scope="session")
def temporary_cache(tmp_path_factory):
    """Keep tests from reading and writing the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPRKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
