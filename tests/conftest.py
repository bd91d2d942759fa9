import os

# Small tensors on two cores: threads only spin and wait for each other, the more so in processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from reprkit.testing.fake_installs import Site

pytest_plugins = ["reprkit.testing.pytest_plugin"]


@pytest.fixture
def site(tmp_path, monkeypatch):
    """An empty site-packages folder on sys.path, where a test installs made-up plugins."""
    monkeypatch.delenv("REPRKIT_PLUGINS", raising=False)
    monkeypatch.delenv("REPRKIT_PLUGIN_ERRORS", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    made = Site(tmp_path)
    yield made
    made.forget()
