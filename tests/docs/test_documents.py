"""Code blocks of the README and the documents run as they stand, top to bottom, in an empty folder."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from reprkit.registry.hookspecs import KINDS

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(
            pytest.param(page, marks=pytest.mark.slow)
            for page in ("docs/how-to/embedding.md", "docs/how-to/tables.md", "docs/tutorial.md")
        ),
    ],
)
def test_code_blocks_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert blocks, f"{page} has no python block"
    names = {"__name__": "__main__"}
    for block in blocks:
        line = text[: text.index(block)].count("\n")
        exec(compile("\n" * line + block, str(ROOT / page), "exec"), names)


def test_links_between_documents_lead_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


@pytest.mark.slow
def test_generated_pages_are_current():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_hook_is_in_the_page_on_plugins():
    hooks = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    for hook in KINDS.values():
        assert hook in hooks, f"{hook} is not in docs/plugins.md"
