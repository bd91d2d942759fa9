"""Verses of three translations, keyed alike: fetched as Debian's packages, read from SWORD modules, and cached."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

from reprkit import ReprkitError
from reprkit.errors import DataError
from reprkit.utils.cache import cache_folder, write_cached
from reprkit.utils.debian_packages import unpack
from reprkit_text.sword import read_module

# Translation -> Debian's package and the module's folder in it; all are in the public domain.
TRANSLATIONS = {
    "kjv": ("sword-text-kjv", "engKJV2006eb"),  # King James Version, English, 1769
    "web": ("sword-text-web", "engWEB2015eb"),  # World English Bible, English, 2020
    "rv": ("sword-text-sparv", "spaRV1909eb"),  # Reina-Valera, Spanish, 1909
}
_MODULES = "usr/share/sword/modules/texts/ztext"
Verses = dict[str, dict[str, str]]  # key -> translation -> text


def cached_path() -> Path:
    """Return the path of the fetched verses."""
    return cache_folder("text") / "verses" / "verses.jsonl.gz"


def read(path: Path) -> Verses:
    """Read a file of verses: key -> translation -> text, in the order of the books.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        return {row["key"]: {name: str(row[name]) for name in TRANSLATIONS if name in row} for row in rows}
    except FileNotFoundError as error:
        raise DataError(
            f"the verses are not in {path.parent}\n  fetch them (10 MB, no root): reprkit text fetch verses"
        ) from error
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged: {error!r}\n  fetch it again: reprkit text fetch verses"
        ) from error


def fetch(packages: Path | None = None) -> tuple[Path, int]:
    """Read the three translations from Debian's packages and store their verses in the cache.

    Args:
        packages: a folder with the three .deb files; None downloads them (``apt-get download``; nothing is installed).

    Returns:
        The file, and how many verses all translations have.

    Raises:
        ReprkitError: no apt-get or dpkg-deb, a package that cannot be had, or a cache that cannot be written.
        DataError: a package without its module.
    """
    with tempfile.TemporaryDirectory(prefix="reprkit-apt-") as scratch:
        modules = {}
        for name, (package, module) in TRANSLATIONS.items():
            unpacked = unpack(package, Path(scratch), given=packages, option="--packages FOLDER")
            modules[name] = read_module(unpacked / _MODULES / module)
    verses = join(modules)
    lines = [json.dumps({"key": key, **texts}, ensure_ascii=False) for key, texts in verses.items()]
    if not write_cached(cached_path(), gzip.compress(("\n".join(lines) + "\n").encode(), 9, mtime=0)):
        raise ReprkitError(f"cannot write {cached_path()}\n  choose another folder: REPRKIT_CACHE=FOLDER")
    return cached_path(), len(verses)


def join(modules: dict[str, dict[str, str]]) -> Verses:
    """Return the verses that every module has, in the order of the first.

    Raises:
        DataError: no verse is in all of them.
    """
    first, *others = modules.values()
    keys = [key for key in first if all(key in other for other in others)]
    if not keys:
        raise DataError(f"{', '.join(modules)} have no verse in common")
    return {key: {name: module[key] for name, module in modules.items()} for key in keys}
