import importlib.util

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
