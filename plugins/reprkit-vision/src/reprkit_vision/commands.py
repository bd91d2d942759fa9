"""``reprkit vision fetch photos``: the photographs that no Python package brings."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from reprkit import ReprkitError
from reprkit.errors import nearest

PACKAGE = "gcompris-qt-data"
# Folders of the archives that hold photographs, and how many pixels the shorter side has at least; what lies beside
# them is drawn.  The monuments of `categorization` are left out: they are those of `explore_monuments` again.
FOLDERS = (
    "erase/resource",
    "explore_farm_animals/resource/animals",
    "explore_monuments/resource",
    "explore_world_animals/resource/animals",
    "categorization/resource/images/fishes",
    "categorization/resource/images/others",
    "categorization/resource/images/renewable",
    "categorization/resource/images/tools",
)
LEAST = 120

vision = typer.Typer(add_completion=False, no_args_is_help=True)


@vision.callback()
def _about() -> None:
    """Images: fetch what no Python package brings."""


@vision.command()
def fetch(
    what: Annotated[str, typer.Argument(help="photos: about 220 photographs of Debian's gcompris-qt-data.")],
    deb: Annotated[
        Path | None,
        typer.Option(
            help="A package file fetched elsewhere; nothing is downloaded then.", show_default=False
        ),
    ] = None,
) -> None:
    """Fetch data into the cache, without root.

    Photos: downloads gcompris-qt-data (44 MB) with apt-get, unpacks it beside the cache and keeps its photographs
    and their licences.  The cache is $REPRKIT_CACHE, or the platform's folder for caches.
    """
    if what != "photos":
        raise ReprkitError(
            f"there is nothing called {what!r} to fetch.{nearest(what, ['photos'])}\n  known: photos"
        )
    from reprkit_vision.data.photos import fetched_folder

    count = fetch_photos(fetched_folder(), deb)
    print(f"{fetched_folder()}: {count} photographs\n  use them: photos(fetched=True)")


def fetch_photos(target: Path, deb: Path | None = None) -> int:
    """Fill a folder with the photographs of the package, and say how many; what was there is replaced at the end.

    Raises:
        ReprkitError: no apt-get or dpkg-deb, no such package, no network, no room, or a package without photographs.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as folder:
            place = Path(folder)
            if deb is None:
                _run(place, "apt-get", "download", PACKAGE)
                deb = next(place.glob(f"{PACKAGE}*.deb"), None)
                if deb is None:
                    raise ReprkitError(f"apt-get download {PACKAGE} left no file")
            _run(place, "dpkg-deb", "-x", str(deb.resolve()), "unpacked")
            fresh = place / "photos"
            fresh.mkdir()
            count = gather(place / "unpacked", fresh)
            if not count:
                raise ReprkitError(
                    f"{deb.name} holds no photographs where they were: is it {PACKAGE} 3 or later?"
                )
            if target.exists():
                target.rename(place / "old")
            fresh.rename(target)
    except OSError as error:
        raise ReprkitError(f"cannot write {target}: {error}") from error
    return count


def gather(unpacked: Path, target: Path) -> int:
    """Copy the photographs of an unpacked package, and its licences, into a folder; how many there are."""
    from PIL import Image

    from reprkit_vision.data.rcc import members

    seen: set[bytes] = set()
    for archive in sorted(unpacked.rglob("*.rcc")):
        for name, content in sorted(members(archive)):
            folder = next((each for each in FOLDERS if f"/activities/{each}/" in f"/{name}"), None)
            if folder is None or not name.endswith(".webp") or content in seen:
                continue
            with Image.open(io.BytesIO(content)) as picture:
                if picture.mode != "RGB" or min(picture.size) < LEAST:
                    continue
            seen.add(content)
            inside = name.partition("/activities/")[2].replace("/resource/", "/").replace("/", "-")
            (target / inside).write_bytes(content)
    for licence in unpacked.rglob("copyright"):
        shutil.copy(licence, target / "copyright")
    return len(list(target.glob("*.webp")))


def _run(folder: Path, *command: str) -> None:
    if shutil.which(command[0]) is None:
        raise ReprkitError(
            f"{command[0]} is not on this machine: fetch {PACKAGE}*.deb on a Debian or Ubuntu machine (apt-get download "
            f"{PACKAGE}), and give it with --deb FILE, where dpkg-deb is installed"
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = "\n  ".join(done.stderr.strip().splitlines()[-3:])
        raise ReprkitError(
            f"{' '.join(command)} failed:\n  {said}\n  where the package list is old: apt-get update"
        )
