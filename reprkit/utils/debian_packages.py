"""Packages of Debian: downloaded with apt-get and unpacked, while nothing is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from reprkit.errors import ReprkitError


def unpack(
    package: str, folder: Path, into: str = "unpacked", *, given: Path | None = None, option: str
) -> Path:
    """Unpack a package into a folder below ``folder``, and return that folder; its files are added to those that are there.

    Args:
        package: the package's name.
        folder: a temporary folder, where the package is downloaded once.
        into: name of the folder below it.
        given: the package's file, or a folder that holds it, instead of downloading.
        option: how a user gives it, for messages, such as "--debs FOLDER".

    Raises:
        ReprkitError: no apt-get or dpkg-deb, no such package or file, or no network.
    """
    if given is not None and given.is_file():
        file = given
    else:
        place = folder if given is None else given.expanduser()
        if given is None and not list(folder.glob(f"{package}_*.deb")):
            _run(package, folder, option, "apt-get", "download", package)
        files = sorted(place.glob(f"{package}_*.deb"))
        if not files:
            raise ReprkitError(
                f"apt-get download {package} left no file"
                if given is None
                else f"no {package}_*.deb in {str(given)!r} (looked in {Path.cwd()})"
            )
        file = files[-1]
    _run(package, folder, option, "dpkg-deb", "-x", str(file.resolve()), into)
    return folder / into


def _run(package: str, folder: Path, option: str, *command: str) -> None:
    if shutil.which(command[0]) is None:
        raise ReprkitError(
            f"{command[0]} is not installed on this machine: fetch {package}_*.deb on a Debian or Ubuntu machine (apt-get download "
            f"{package}), and give it with {option}, where dpkg-deb is installed"
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        message = "\n  ".join(done.stderr.strip().splitlines()[-3:])
        raise ReprkitError(
            f"{' '.join(command)} failed:\n  {message}\n  if the package list is outdated, run apt-get update"
        )
