import importlib.util

import pytest

if importlib.util.find_spec("reprkit_text") is None:
    # Only reprkit itself is installed: these tests need `pip install plugins/reprkit-text`.
    collect_ignore_glob = ["test_*.py"]


def pytest_configure(config):
    """Load reprkit's fixtures and marks, also where this is not the first conftest of the run."""
    config.pluginmanager.import_plugin("reprkit.testing.pytest_plugin")


@pytest.fixture(autouse=True, scope="session")
def private_cache(tmp_path_factory):
    """Keep tests from reading or writing the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPRKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
