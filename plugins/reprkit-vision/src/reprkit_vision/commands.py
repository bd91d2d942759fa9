"""``reprkit vision fetch``: fetch images that no Python package contains."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from reprkit import ReprkitError
from reprkit.errors import nearest
from reprkit.utils import debian_packages
from reprkit.utils.cache import cache_folder

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


@dataclass(frozen=True, kw_only=True)
class Source:
    """Images of a Debian package.

    Attributes:
        package: its name.
        copy: (unpacked package, folder to fill) -> number of images.
        images: what they are.
        example: a reference to the data set.
    """

    package: str
    copy: Callable[[Path, Path], int]
    images: str
    example: str


@vision.callback()
def _about() -> None:
    """Images: fetch data that no Python package contains."""


@vision.command()
def fetch(
    what: Annotated[
        str,
        typer.Argument(
            help="photos: 218 photographs of gcompris-qt-data; fashion: Fashion-MNIST of dataset-fashion-mnist; "
            "stamps: cut-outs of tuxpaint-stamps-default."
        ),
    ],
    deb: Annotated[
        Path | None,
        typer.Option(
            help="A Debian package file fetched elsewhere; then nothing is downloaded.", show_default=False
        ),
    ] = None,
) -> None:
    """Fetch images of a Debian package into the cache, without root.

    The package (44 MB of photos, 31 MB of fashion, 161 MB of stamps) is downloaded with apt-get and unpacked beside the cache; its
    images and their license are kept.  The cache is $REPRKIT_CACHE, or the platform's cache folder.
    """
    if what not in SOURCES:
        raise ReprkitError(
            f"no data named {what!r} to fetch.{nearest(what, SOURCES)}\n  known: {', '.join(SOURCES)}"
        )
    target, source = cache_folder("vision") / what, SOURCES[what]
    count = fetch_package(source, target, deb)
    print(f"{target}: {count:,} {source.images}\n  use them: {source.example}")


def fetch_package(source: Source, target: Path, deb: Path | None = None) -> int:
    """Fill a folder with the images of a package and return their number; an existing folder is replaced at the end.

    Raises:
        ReprkitError: no apt-get or dpkg-deb, no such package, no network, no disk space, or a package without these images.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as folder:
            work = Path(folder)
            unpacked = debian_packages.unpack(source.package, work, given=deb, option="--deb FILE")
            fresh = work / "fresh"
            fresh.mkdir()
            count = source.copy(unpacked, fresh)
            if not count:
                raise ReprkitError(
                    f"{source.package} has no {source.images} in the expected folders: is it a recent version?"
                )
            for number, license_file in enumerate(sorted(unpacked.rglob("copyright"))):
                shutil.copy(license_file, fresh / (f"copyright-{number}" if number else "copyright"))
            if target.exists():
                target.rename(work / "old")
            fresh.rename(target)
    except OSError as error:
        raise ReprkitError(f"cannot write {target}: {error}") from error
    return count


def copy_photos(unpacked: Path, target: Path) -> int:
    """Copy the photographs of an unpacked package into a folder; return their number."""
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
    return len(list(target.glob("*.webp")))


def copy_fashion(unpacked: Path, target: Path) -> int:
    """Copy the four files of Fashion-MNIST into a folder, and read them; return the number of images.

    Raises:
        DataError: files that are missing or damaged.
    """
    from reprkit_vision.data.fashion import Fashion

    found = list(unpacked.rglob("*-ubyte.gz"))
    for path in found:
        shutil.copy(path, target)
    return len(Fashion(str(target))) if found else 0


def copy_stamps(unpacked: Path, target: Path) -> int:
    """Copy the cut-outs, PNG files with transparency, into a folder, without the alphabets; return their number.

    ``metadata.jsonl`` gets a row for each that has a name: ``file_name``, ``text`` (English), and the name by code of language.
    """
    rows = []
    for path in sorted(unpacked.rglob("tuxpaint/stamps/**/*.png")):
        folders = path.parts[path.parts.index("stamps") + 1 :]
        if "alphabets" in folders:  # texts are drawn in fonts
            continue
        name = "-".join(folders)
        shutil.copy(path, target / name)
        if names := read_names(path.with_suffix(".txt")):
            rows.append({"file_name": name, "text": names["en"], **names})
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (target / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return len(list(target.glob("*.png")))


def read_names(path: Path) -> dict[str, str]:
    """Return the names of a stamp by code of language, English as "en"; {} where there is no file of names, or no English name."""
    if not path.is_file():
        return {}
    first, *others = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    names = {"en": first.strip()}
    for line in others:
        code, found, name = line.partition(".utf8=")
        if found and name.strip():
            names[code.strip()] = name.strip()
    return names if names["en"] else {}


SOURCES = {
    "photos": Source(
        package="gcompris-qt-data", copy=copy_photos, images="photographs", example="photos(fetched=True)"
    ),
    "fashion": Source(
        package="dataset-fashion-mnist", copy=copy_fashion, images="pictures of clothes", example="fashion"
    ),
    "stamps": Source(
        package="tuxpaint-stamps-default",
        copy=copy_stamps,
        images="cut-outs",
        example="denoising(corruption=\"watermark(stamps='fetched')\")",
    ),
}
