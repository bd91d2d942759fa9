"""A plugin neither stops anyone by what it raises nor changes the process by its import."""

import base64
import contextlib
import gc
import hashlib
import io
import json
import locale
import logging
import os
import random
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

from reprkit.commands.main import main
from reprkit.errors import PartImportError
from reprkit.registry import discovery
from reprkit.registry.discovery import InstalledPlugin
from reprkit.registry.registry import Registry, using_registry
from reprkit.testing.fake_installs import Site

GOOD = """
from reprkit import Spec, hookimpl

@hookimpl
def reprkit_latents():
    yield Spec("sphere", "acme_parts:FSQ")
"""

PANIC = """
class PanicException(BaseException):
    "As pyo3 raises it: it derives from BaseException."
"""


def plugin_of(registry: Registry, distribution: str) -> InstalledPlugin:
    (row,) = [row for row in registry.plugins if row.distribution == distribution]
    return row


def why(*args):
    """Run ``reprkit plugins``; return its exit code and standard output."""
    out = io.StringIO()
    with (
        using_registry(Registry()),
        contextlib.redirect_stdout(out),
        pytest.raises(SystemExit) as ended,
    ):
        main(["plugins", *args])
    return ended.value.code or 0, out.getvalue()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{PANIC}\nraise PanicException('rust\\npanicked')", "PanicException: rust panicked"),
        ("raise SystemExit", "SystemExit"),
        ("raise GeneratorExit('early')", "GeneratorExit: early"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ("raise BaseExceptionGroup('several', [SystemExit(1)])", "BaseExceptionGroup: several"),
        (f"{PANIC}\n{GOOD.replace('yield', 'raise PanicException(1); yield')}", "PanicException: 1"),
        (f"{PANIC}\ndef __getattr__(name): raise PanicException(name)", "PanicException: "),
        (
            "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute",
            "Mute: its message cannot be printed",
        ),
    ],
)
def test_whatever_a_plugin_raises_stops_nobody(site, text, reason):
    site.add("bad-one", text)
    site.add("acme-latents", GOOD)
    registry = Registry()
    row = plugin_of(registry, "bad-one")
    assert row.status == "broken"
    assert row.reason.startswith(reason)
    assert registry.find("latent", "sphere").qualified == "acme-latents/sphere"


def test_keyboard_interrupt_passes(site):
    site.add("bad-one", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        _ = Registry().plugins


def test_panic_in_the_module_of_a_part_is_an_error_of_that_part(site):
    site.add("acme-latents", GOOD, modules={"acme_parts": f"{PANIC}\nraise PanicException('rust')"})
    with pytest.raises(
        PartImportError, match="acme-latents/sphere 0.1.0 cannot be imported .*\n  PanicException: rust"
    ):
        Registry().load("latent", "sphere")


CHANGES = {
    "the working directory": ("import os; os.chdir('/')", os.getcwd),
    "the random state of Python": ("import random; random.seed(4711)", random.getstate),
    "the random state of NumPy": (
        "import numpy; numpy.random.seed(4711)",
        lambda: str(np.random.get_state()),
    ),
    "the environment (ACME_NEW, PATH)": (
        "import os; os.environ.update(ACME_NEW='1', PATH='/nowhere')",
        lambda: dict(os.environ),
    ),
    "sys.path": ("import sys; sys.path.insert(0, '/nowhere')", lambda: list(sys.path)),
    "sys.excepthook": ("import sys; sys.excepthook = print", lambda: sys.excepthook),
    "the warnings filters": (
        "import warnings; warnings.simplefilter('error')",
        lambda: list(warnings.filters),
    ),
    "signal handlers": (
        "import signal; signal.signal(signal.SIGUSR1, lambda *_: None)",
        lambda: signal.getsignal(signal.SIGUSR1),
    ),
    "the recursion limit": ("import sys; sys.setrecursionlimit(5000)", sys.getrecursionlimit),
    "garbage collection": ("import gc; gc.disable()", gc.isenabled),
    "the root logger": (
        "import logging; logging.basicConfig(level=0, force=True)",
        lambda: (logging.root.level, list(logging.root.handlers)),
    ),
    "standard output (it prints)": ("print('hello')", lambda: sys.stdout),
    "sys.stdout": ("import sys, io; sys.stdout = io.StringIO()", lambda: sys.stdout),
    "sys.stderr": ("import sys, io; sys.stderr = io.StringIO()", lambda: sys.stderr),
    "torch's default dtype": (
        "import torch; torch.set_default_dtype(torch.float64)",
        lambda: sys.modules["torch"].get_default_dtype(),
    ),
    "torch's default device": (
        "import torch; torch.set_default_device('meta')",
        lambda: sys.modules["torch"].get_default_device(),
    ),
    "torch's gradient mode": (
        "import torch; torch.set_grad_enabled(False)",
        lambda: sys.modules["torch"].is_grad_enabled(),
    ),
    "the random state of torch": (
        "import torch; torch.manual_seed(4711)",
        lambda: sys.modules["torch"].get_rng_state().tolist(),
    ),
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_change_of_the_process_is_put_back_and_named(site, change, fails):
    text, read = CHANGES[change]
    if "torch" in change:
        pytest.importorskip("torch")
    site.add("rude", f"{text}\n{'1 / 0' if fails else ''}\n{GOOD}")
    before = read()
    row = plugin_of(Registry(), "rude")
    assert read() == before
    assert row.status == ("broken" if fails else "ok")
    assert f"its import changes {change}, which was put back" in row.reason


@pytest.mark.skipif("C.utf8" not in os.popen("locale -a").read(), reason="the machine has no second locale")
def test_locale_is_put_back(site):
    before = locale.setlocale(locale.LC_ALL)
    other = "C" if locale.setlocale(locale.LC_NUMERIC) != "C" else "C.utf8"
    site.add("rude", f"import locale; locale.setlocale(locale.LC_ALL, {other!r})\n{GOOD}")
    reason = plugin_of(Registry(), "rude").reason
    assert locale.setlocale(locale.LC_ALL) == before
    assert "the locale" in reason


def test_polite_plugin_has_no_remark(site):
    site.add("acme-latents", GOOD)
    row = plugin_of(Registry(), "acme-latents")
    assert (row.status, row.reason) == ("ok", "")
    assert 0 < row.seconds < 60


def test_slow_import_is_named_with_its_seconds(site, monkeypatch):
    monkeypatch.setattr(discovery, "SLOW", 0.02)
    site.add("sleepy", f"import time; time.sleep(0.06)\n{GOOD}")
    assert "its import takes 0.1 s, in every command" in plugin_of(Registry(), "sleepy").reason


def test_what_a_plugin_prints_by_any_way_leaves_json_valid(site):
    site.add(
        "loud",
        "import os, sys\nprint('one')\nos.write(1, b'two\\n')\nprint('three', file=sys.__stdout__)\n"
        "os.system('echo four')\n" + GOOD,
    )
    done = subprocess.run(
        [sys.executable, "-m", "reprkit", "plugins", "--json"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    rows = json.loads(done.stdout)
    assert sorted(done.stderr.split()) == ["four", "one", "three", "two"]
    (row,) = [row for row in rows if row["distribution"] == "loud"]
    assert "its import changes standard output (it prints), which was put back" in row["reason"]


def test_module_of_a_part_that_changes_results_is_put_back_with_a_warning(site):
    import torch

    parts = "import random, torch\nrandom.seed(4711)\ntorch.set_default_dtype(torch.float64)\nclass FSQ: pass"
    site.add("acme-latents", GOOD, modules={"acme_parts": parts})
    before = random.getstate()
    registry = Registry()
    with pytest.warns(
        UserWarning,
        match=r"import of acme_parts \(acme-latents 0\.1\.0\) changes the random state of Python, torch's default dtype",
    ):
        registry.load("latent", "sphere")
    assert random.getstate() == before
    assert torch.get_default_dtype() == torch.float32


# ------------------------------------------------------------------ records of installations


def dist_info(site, name, *, entry_points=None, metadata=None, record=None):
    folder = site.root / name
    folder.mkdir()
    for file, text in (("entry_points.txt", entry_points), ("METADATA", metadata), ("RECORD", record)):
        if text is not None:
            (folder / file).write_text(text)
    return folder


POINTS = "[reprkit]\nacme = acme_lat_plugin\n"


def metadata_of(version):
    return f"Metadata-Version: 2.1\nName: acme-lat\nVersion: {version}\n"


def test_leftover_of_an_uninstallation_is_skipped_and_explained(site):
    leftover = dist_info(site, "~cme_lat-0.2.dist-info", entry_points=POINTS, metadata=metadata_of("0.2"))
    site.add("acme-lat", GOOD, version="0.1")
    row = plugin_of(Registry(), "acme-lat")
    assert (row.version, row.status, row.reason) == ("0.1", "ok", "")
    code, text = why("--why", "acme-lat")
    assert code == 0
    assert f"found: {leftover} (left by an interrupted uninstallation; remove it)" in text


def test_leftover_alone_is_no_plugin(site, capsys):
    leftover = dist_info(site, "~cme_lat-0.2.dist-info", entry_points=POINTS, metadata=metadata_of("0.2"))
    assert "acme-lat" not in {row.distribution for row in Registry().plugins}
    assert why("--why", "acme-lat")[0] == 1
    assert f"{leftover} was skipped: left by an interrupted uninstallation" in capsys.readouterr().err


def hash_of(path):
    digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
    return f"{path.name},sha256={digest},{path.stat().st_size}\n"


STALE = {
    "without METADATA": {"entry_points": POINTS},
    "of a module that is gone": {
        "entry_points": "[reprkit]\nacme = acme_lat_gone\n",
        "metadata": metadata_of("0.2"),
    },
    "with the RECORD of other files": {
        "entry_points": POINTS,
        "metadata": metadata_of("0.2"),
        "record": "acme_lat_plugin.py,sha256=AAAA,4\n",
    },
    "without a RECORD": {"entry_points": POINTS, "metadata": metadata_of("0.2")},
}


@pytest.mark.parametrize("stale", STALE)
@pytest.mark.parametrize("number", ["0.2", "0.01"])
def test_stale_record_neither_hides_the_plugin_nor_gives_its_version(site, stale, number):
    site.add("acme-lat", GOOD, version="0.1")
    healthy = site.root / "acme_lat-0.1.dist-info"
    (healthy / "RECORD").write_text(hash_of(site.root / "acme_lat_plugin.py"))
    files = {name: text.replace("Version: 0.2", f"Version: {number}") for name, text in STALE[stale].items()}
    other = dist_info(site, f"acme_lat-{number}.dist-info", **files)
    row = plugin_of(Registry(), "acme-lat")
    assert (row.version, row.status, row.offers) == ("0.1", "ok", {"latent": ("sphere",)})
    assert (
        f"{healthy.name} is used, and {other.name} beside it is stale: remove it, or pip install"
        in row.reason
    )
    _, text = why("--why", "acme-lat")
    assert f"found: {healthy} (used)" in text
    assert f"found: {other} (stale, beside the one that is used" in text


def test_plugins_without_metadata_have_their_own_rows(site):
    for name, latent in (("acme-one", "one"), ("acme-two", "two")):
        site.add(name, GOOD.replace("sphere", latent))
        (site.root / f"{name.replace('-', '_')}-0.1.0.dist-info" / "METADATA").unlink()
    registry = Registry()
    for name, latent in (("acme-one", "one"), ("acme-two", "two")):
        row = plugin_of(registry, name)
        assert (row.status, row.offers, row.version) == ("ok", {"latent": (latent,)}, "unknown")
        assert "its METADATA is missing" in row.reason
        assert registry.find("latent", f"{name}/{latent}").distribution == name


def test_version_is_that_of_importlib_metadata(site):
    """A folded header and a Version in the description."""
    site.add("acme-lat", GOOD, version="0.1")
    folder = site.root / "acme_lat-0.1.dist-info"
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nSummary: one\n Version: 7\nName: Acme.Lat\nversion: 1.5\n\nVersion: 9\n"
    )
    assert plugin_of(Registry(), "acme-lat").version == "1.5"


def test_first_folder_on_the_path_wins_and_the_other_is_explained(site, tmp_path_factory, monkeypatch):
    site.add("acme-lat", GOOD, version="0.1")
    later = Site(tmp_path_factory.mktemp("later"))
    later.add("acme-lat", GOOD, version="0.9")
    monkeypatch.setattr(sys, "path", [*sys.path, str(later.root), str(site.root)])
    row = plugin_of(Registry(), "acme-lat")
    assert (row.version, row.reason) == ("0.1", "")
    _, text = why("--why", "acme-lat")
    assert text.count("found: ") == 2, "the same folder twice on sys.path counts once"
    assert "acme_lat-0.9.dist-info (hidden by the one that is used, which is earlier on sys.path)" in text


def test_why_says_what_failed_and_how_long_it_took(site):
    site.add("bad-one", "import time; time.sleep(0.01); raise OSError('libfoo.so')")
    code, text = why("--why", "bad-one")
    lines = text.splitlines()
    assert code == 0
    assert lines[0] == "bad-one (bad) 0.1.0: broken (OSError: libfoo.so)"
    assert lines[2] == "  entry point: bad = bad_one_plugin"
    assert 0.01 <= float(lines[3].removeprefix("  import: ").removesuffix(" s")) < 60
    assert "Traceback" in text
    _, text = why("--why", "bad-one", "--json")
    (row,) = json.loads(text)
    assert row["found"] == [
        {"path": str(site.root / "bad_one-0.1.0.dist-info"), "version": "0.1.0", "state": "used"}
    ]
    assert row["entry_point"] == "bad_one_plugin"
    assert row["seconds"] >= 0.01
