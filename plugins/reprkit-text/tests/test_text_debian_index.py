"""Debian's package index: parsing, fetching into the cache, errors."""

import gzip
import subprocess

import pytest
from reprkit_text import debian_index
from reprkit_text.data.debian import Debian
from story_files import WORDS
from typer.testing import CliRunner

import reprkit as rk
from reprkit.errors import DataError, PartArgumentError

PACKAGES = """Package: one
Source: ones (1.0)
Section: contrib/games

Package: two
Section: libs

Package: bare
"""
TRANSLATIONS = """Package: one
Description-md5: 1
Description-en: A game
 It is  a
 game.
 .
 Second
 .
 .
   * third

Package: two
Description-en: A library

Package: unknown
Description-en: Not in the lists
 Body.
"""


def test_the_index_is_parsed(tmp_path):
    for name, text in {"x_Packages": PACKAGES, "x_i18n_Translation-en": TRANSLATIONS}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "h_dists_test_InRelease").write_text("Origin: Debian\nDate: Sat, 11 Jul 2026 10:16:37 UTC\n")
    about, rows = debian_index._read_lists(tmp_path)
    assert about == {"release": {"test": "Sat, 11 Jul 2026 10:16:37 UTC"}}
    assert rows == [
        {"package": "one", "source": "ones", "section": "games", "synopsis": "A game",
         "paragraphs": "It is a game.\n\nSecond\n\n* third"},
        {"package": "two", "source": "two", "section": "libs", "synopsis": "A library", "paragraphs": ""},
    ]  # fmt: skip


def test_fetched_lists_are_cached_and_used(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="reprkit text fetch debian"):
        Debian(index="fetched")
    sections, bodies = [], []
    for n in range(30):
        sections.append(f"Package: p{n}\nSection: s{n % 3}\n")
        bodies.append(f"Package: p{n}\nDescription-en: Synopsis {n}\n Number {n // 2} " + "word " * 30 + "\n")
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "x_Packages").write_text("\n".join(sections))
    (folder / "x_i18n_Translation-en").write_text("\n".join(bodies))
    from reprkit_text.commands import text

    result = CliRunner().invoke(text, ["fetch", "debian", "--lists", str(folder)])
    assert result.exit_code == 0, result.output
    assert "30 descriptions" in result.output
    assert len(Debian(index="fetched", tokenizer=WORDS)) == 15, "one of each first paragraph"
    assert len(Debian(index="fetched", tokenizer=WORDS, distinct=False)) == 30
    with gzip.open(debian_index.cached_path(), "wt") as file:
        file.write("{")
    with pytest.raises(DataError, match="is damaged"):
        Debian(index="fetched")
    with pytest.raises(rk.ReprkitError, match="keeps no descriptions"):
        debian_index.fetch(tmp_path)


def test_fetching_uses_a_temporary_lists_folder_and_reports_errors(tmp_path, monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, 100, "", "E: no network\n")

    monkeypatch.setattr(debian_index.subprocess, "run", run)
    monkeypatch.setattr(debian_index.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(rk.ReprkitError, match="E: no network"):
        debian_index.fetch()
    (command,) = commands
    assert command[-1] == "update"
    own = next(word for word in command if word.startswith("Dir::State::lists="))
    assert not own.endswith("/var/lib/apt/lists")
    monkeypatch.setattr(debian_index.shutil, "which", lambda name: None)
    with pytest.raises(rk.ReprkitError, match="no apt-get"):
        debian_index.fetch()


def test_debian_rejects_invalid_arguments():
    with pytest.raises(PartArgumentError, match="index='all' must be 'sample' or 'fetched'"):
        Debian(index="all")
    with pytest.raises(PartArgumentError, match="ascending"):
        Debian(words=(5, 1))
    with pytest.raises(DataError, match="no description of the index has 900 to 1000 words"):
        Debian(words=(900, 1000))
    with pytest.raises(PartArgumentError, match="length=0 must be an integer"):
        Debian(length=0)
