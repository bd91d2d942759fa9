"""Code blocks of the README and the documents run as they stand, top to bottom, in an empty folder."""

import re
import shlex
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
            for page in (
                "docs/how-to/pictures.md",
                "docs/how-to/sound.md",
                "docs/how-to/embedding.md",
                "docs/how-to/tables.md",
                "docs/how-to/text.md",
                "docs/how-to/anomalies.md",
                "docs/how-to/compression.md",
                "docs/how-to/long_runs.md",
                "docs/tutorial.md",
            )
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


@pytest.mark.slow
def test_commands_and_code_of_the_page_on_commands_run(tmp_path, monkeypatch, capsys):
    from reprkit.commands.main import main

    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/how-to/commands.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert {kind for kind, _ in blocks} == {"sh", "python"}
    for kind, block in blocks:
        if kind == "python":
            exec(compile(block, "commands.md", "exec"), {"__name__": "__main__"})
            continue
        for line in block.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "reprkit"
            with pytest.raises(SystemExit) as exited:
                main(arguments)
            assert not exited.value.code, f"{line}\n{capsys.readouterr().err}"


def test_every_command_is_in_the_readme():
    from reprkit.commands.main import COMMANDS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in COMMANDS if f"`{name}`" not in text]
    assert not missing


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
