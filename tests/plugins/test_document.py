"""docs/plugins.md, run as a reader would: files written, commands typed, from an empty folder to an installed plugin."""

import os
import re
import stat
import sys

import pytest
from installing import ROOT, run

from reprkit.registry.hookspecs import API, KINDS

PAGE = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)


def test_the_page_names_what_an_author_needs():
    for hook in KINDS.values():
        assert f"`{hook}`" in PAGE
    for word in (
        "reprkit new",
        "reprkit check",
        "reprkit plugins --why",
        "REPRKIT_PLUGINS",
        "REPRKIT_PLUGIN_ERRORS=raise",
        f"reprkit_api = {API}",
        "reprkit.testing.pytest_plugin",
    ):
        assert word in PAGE
    for kind in KINDS:
        if kind != "command":
            assert f"`{kind.capitalize()}Conformance`" in PAGE


@pytest.mark.slow
@pytest.mark.ranks
def test_every_block_runs(tmp_path):
    home, site, tools = tmp_path / "home", tmp_path / "site", tmp_path / "bin"
    home.mkdir()
    tools.mkdir()
    for name, module in {
        "reprkit": "reprkit",
        "pip": "pip",
        "pytest": "pytest -q -p no:cacheprovider",
    }.items():
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (tools / name).chmod(stat.S_IRWXU)
    variables = {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        # What the reader's pip does online, here offline and into a folder of its own.
        "PIP_TARGET": str(site),
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    python, output, blocks = "", "", 0
    for block in BLOCK.finditer(PAGE):
        kind, title, text = block["kind"], block["title"], block["text"]
        line = PAGE[: block.start()].count("\n") + 1
        if title:
            path = home / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            continue
        if kind == "text":
            for expected in text.splitlines():
                assert _plain(expected) in _plain(output), f"line {line}: not printed: {expected}\n{output}"
            continue
        assert kind in ("bash", "python"), f"line {line}: a block of {kind} needs a title"
        if kind == "bash":
            done = run(["bash", "-euc", text], site=site, cwd=home, **variables)
        else:
            done = run([sys.executable, "-c", python + text], site=site, cwd=home, **variables)
            python += "".join(row + "\n" for row in text.splitlines() if row.startswith(("import ", "from ")))
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"docs/plugins.md, line {line}:\n{output[-5000:]}"
        blocks += 1
    assert blocks >= 10


def _plain(text):
    """Columns move with what is installed."""
    return " ".join(text.split())
