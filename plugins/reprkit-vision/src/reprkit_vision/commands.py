"""``reprkit vision fetch photos``: fetch photographs that no Python package contains."""

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
# Folders of the archives that hold photographs (other folders hold drawings), and the least length of a photograph's
# shorter side in pixels.  The monuments of `categorization` are left out: they repeat those of `explore_monuments`.
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
MIN_SIDE = 120

vision = typer.Typer(add_completion=False, no_args_is_help=True)


@vision.callback()
def _about() -> None:
    """Images: fetch photographs that no Python package contains."""


@vision.command()
def fetch(
    what: Annotated[str, typer.Argument(help="photos: about 220 photographs of Debian's gcompris-qt-data.")],
    deb: Annotated[
        Path | None,
        typer.Option(
            help="A Debian package file fetched elsewhere; then nothing is downloaded.", show_default=False
        ),
    ] = None,
) -> None:
    """Fetch data into the cache, without root.

    Photos: downloads gcompris-qt-data (44 MB) with apt-get, unpacks it beside the cache and keeps its photographs
    and their licenses.  The cache is $REPRKIT_CACHE, or the platform's cache folder.
    """
    if what != "photos":
        raise ReprkitError(f"no data named {what!r} to fetch.{nearest(what, ['photos'])}\n  known: photos")
    from reprkit_vision.data.photos import fetched_folder

    count = fetch_photos(fetched_folder(), deb)
    print(f"{fetched_folder()}: {count} photographs\n  use them: photos(fetched=True)")


def fetch_photos(target: Path, deb: Path | None = None) -> int:
    """Fill a folder with the photographs of the package and return their number; an existing folder is replaced at the end.

    Raises:
        ReprkitError: no apt-get or dpkg-deb, no such package, no network, no disk space, or a package without photographs.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as folder:
            work = Path(folder)
            if deb is None:
                _run_command(work, "apt-get", "download", PACKAGE)
                deb = next(work.glob(f"{PACKAGE}*.deb"), None)
                if deb is None:
                    raise ReprkitError(f"apt-get download {PACKAGE} left no file")
            _run_command(work, "dpkg-deb", "-x", str(deb.resolve()), "unpacked")
            fresh = work / "photos"
            fresh.mkdir()
            count = copy_photos(work / "unpacked", fresh)
            if not count:
                raise ReprkitError(
                    f"{deb.name} has no photographs in the expected folders: is it {PACKAGE} 3 or later?"
                )
            if target.exists():
                target.rename(work / "old")
            fresh.rename(target)
    except OSError as error:
        raise ReprkitError(f"cannot write {target}: {error}") from error
    return count


def copy_photos(unpacked: Path, target: Path) -> int:
    """Copy the photographs of an unpacked package and its licenses into a folder; return the number of photographs."""
    from PIL import Image

    from reprkit_vision.data.rcc import read_members

    seen: set[bytes] = set()
    for archive in sorted(unpacked.rglob("*.rcc")):
        for name, content in sorted(read_members(archive)):
            folder = next((folder for folder in FOLDERS if f"/activities/{folder}/" in f"/{name}"), None)
            if folder is None or not name.endswith(".webp") or content in seen:
                continue
            with Image.open(io.BytesIO(content)) as picture:
                if picture.mode != "RGB" or min(picture.size) < MIN_SIDE:
                    continue
            seen.add(content)
            file_name = name.partition("/activities/")[2].replace("/resource/", "/").replace("/", "-")
            (target / file_name).write_bytes(content)
    for license_file in unpacked.rglob("copyright"):
        shutil.copy(license_file, target / "copyright")
    return len(list(target.glob("*.webp")))


def _run_command(folder: Path, *command: str) -> None:
    if shutil.which(command[0]) is None:
        raise ReprkitError(
            f"{command[0]} is not installed on this machine: fetch {PACKAGE}*.deb on a Debian or Ubuntu machine (apt-get download "
            f"{PACKAGE}), and give it with --deb FILE, where dpkg-deb is installed"
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        output = "\n  ".join(done.stderr.strip().splitlines()[-3:])
        raise ReprkitError(
            f"{' '.join(command)} failed:\n  {output}\n  if the package list is outdated: apt-get update"
        )
