"""Debian's package index: read from apt's lists and cached; a sample comes with the plugin."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reprkit import ReprkitError
from reprkit.errors import DataError
from reprkit.utils.cache import cache_folder, write_cached

SAMPLE = Path(__file__).parent / "samples" / "debian.jsonl.gz"
_HELPER = "/usr/lib/apt/apt-helper"
_FIELD = re.compile(r"^([A-Za-z0-9-]+): ?(.*(?:\n[ \t].*)*)", re.MULTILINE)
_DATE = re.compile(r"^Date: (.*)$", re.MULTILINE)


def cached_path() -> Path:
    """Return the path of the fetched index."""
    return cache_folder("text") / "debian" / "descriptions.jsonl.gz"


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Read a file of descriptions: its metadata (``release``), and its records, one for each package.

    A record has ``package``, ``source``, ``section``, ``synopsis`` and ``paragraphs``, separated by empty lines.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            about, *records = (json.loads(line) for line in lines)
    except FileNotFoundError as error:
        raise DataError(
            f"Debian's descriptions are not in {path.parent}\n"
            "  fetch them (16 MB, no root): reprkit text fetch debian; or take the sample: debian"
        ) from error
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}\n  fetch it again: reprkit text fetch debian") from error
    return about, records


def fetch(lists: Path | None = None) -> tuple[Path, int]:
    """Read the index and store it in the cache.

    Args:
        lists: a folder of apt's lists with ``Translation-en`` files, such as /var/lib/apt/lists if the system keeps them;
            None fetches them into a temporary folder (``apt-get update``; the system's lists are not changed).

    Returns:
        The file, and how many packages it describes.

    Raises:
        ReprkitError: no apt-get, no network, no lists of descriptions in the folder, or a cache that cannot be written.
    """
    if lists is not None:
        return _write_to_cache(*_read_lists(Path(lists).expanduser()))
    if shutil.which("apt-get") is None:
        raise ReprkitError(
            "no apt-get on this machine: Debian's index can be fetched on Debian, Ubuntu and their derivatives\n"
            "  copy the file from such a machine, or copy its lists and pass --lists FOLDER"
        )
    with tempfile.TemporaryDirectory(prefix="reprkit-apt-") as folder:
        (Path(folder) / "partial").mkdir()
        settings = {
            "Acquire::Languages": "en",
            "Dir::State::lists": folder,
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        result = subprocess.run(["apt-get", *options, "update"], capture_output=True, text=True)
        if result.returncode:
            message = "\n  ".join(result.stderr.strip().splitlines()[-3:])
            raise ReprkitError(f"apt-get update failed:\n  {message}")
        return _write_to_cache(*_read_lists(Path(folder)))


def parse_records(translations: str, packages: Mapping[str, Mapping[str, str]]) -> Iterator[dict[str, str]]:
    """Yield the records of a ``Translation-en`` file; sections and sources come from ``packages`` (package -> its fields)."""
    for block in translations.split("\n\n"):
        fields = _parse_fields(block)
        text, package = fields.get("Description-en"), fields.get("Package")
        if not text or not package or package not in packages:
            continue
        synopsis, *lines = text.split("\n")
        body = "\n".join("" if line.strip() == "." else line.strip() for line in lines)
        paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n{2,}", body)]
        about = packages[package]
        yield {
            "package": package,
            "source": about.get("Source", package).split(" ")[0],
            "section": about.get("Section", "").rpartition("/")[2],
            "synopsis": synopsis.strip(),
            "paragraphs": "\n\n".join(paragraph for paragraph in paragraphs if paragraph),
        }


def _read_lists(folder: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Read all lists of a folder: the dates of the releases, and the first record of each package."""
    if not folder.is_dir():
        raise ReprkitError(f"no folder of apt's lists {str(folder)!r} (looked in {Path.cwd()})")
    translations = sorted(folder.glob("*_Translation-en*"))
    if not translations:
        raise ReprkitError(
            f"{folder} holds no Translation-en: this system keeps no descriptions\n"
            "  without --lists they are fetched into a temporary folder"
        )
    packages: dict[str, dict[str, str]] = {}
    for file in sorted(folder.glob("*_Packages*")):
        for block in _read_list(file).split("\n\n"):
            fields = _parse_fields(block)
            if "Package" in fields and "Section" in fields:
                packages.setdefault(fields["Package"], fields)
    records: dict[str, dict[str, str]] = {}
    for file in translations:
        for record in parse_records(_read_list(file), packages):
            records.setdefault(record["package"], record)
    if not records:
        raise ReprkitError(f"{folder} holds descriptions, but no Packages lists for these packages")
    dates = {
        path.name.rpartition("_dists_")[2].removesuffix("_InRelease"): match[1]
        for path in sorted(folder.glob("*_InRelease"))
        if "_dists_" in path.name and (match := _DATE.search(path.read_text("utf-8", errors="replace")))
    }
    return {"release": dates}, [records[name] for name in sorted(records)]


def _parse_fields(block: str) -> dict[str, str]:
    return dict(_FIELD.findall(block))


def _read_list(path: Path) -> str:
    """Read one list, compressed or not."""
    if Path(_HELPER).is_file():
        result = subprocess.run([_HELPER, "cat-file", str(path)], capture_output=True)
        if result.returncode:
            raise ReprkitError(f"{path} cannot be read: {result.stderr.decode(errors='replace').strip()}")
        return result.stdout.decode("utf-8", errors="replace")
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ReprkitError(f"{path} cannot be read without apt's own {_HELPER}: {error}") from error


def compress_index(about: Mapping[str, Any], records: list[dict[str, str]]) -> bytes:
    """Serialize descriptions: a line of metadata, then one line for each record."""
    lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in (about, *records)]
    return gzip.compress(("\n".join(lines) + "\n").encode(), 9, mtime=0)


def _write_to_cache(about: dict[str, Any], records: list[dict[str, str]]) -> tuple[Path, int]:
    if not write_cached(cached_path(), compress_index(about, records)):
        raise ReprkitError(f"cannot write {cached_path()}\n  choose another folder: REPRKIT_CACHE=FOLDER")
    return cached_path(), len(records)
