"""Packages of Debian are unpacked from a file, a folder, or a download."""

import shutil
import subprocess

import pytest

from reprkit.errors import ReprkitError
from reprkit.utils.debian_packages import unpack

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="builds a Debian package")


@pytest.fixture
def package(tmp_path):
    """A package with one file, in a folder of its own."""
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: two-lines\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: d\n"
    )
    (tree / "usr").mkdir()
    (tree / "usr/lines.txt").write_text("one\ntwo\n")
    (tmp_path / "debs").mkdir()
    file = tmp_path / "debs/two-lines_1_all.deb"
    subprocess.run(["dpkg-deb", "-b", str(tree), str(file)], check=True, capture_output=True)
    return file


@needs_dpkg
def test_a_file_and_a_folder_are_unpacked(package, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    for into, given in (("a", package), ("b", package.parent)):
        folder = unpack("two-lines", work, into, given=given, option="--deb FILE")
        assert folder == work / into
        assert (folder / "usr/lines.txt").read_text() == "one\ntwo\n"
    with pytest.raises(ReprkitError, match=r"no three-lines_\*\.deb in .*debs' \(looked in"):
        unpack("three-lines", work, given=package.parent, option="--deb FILE")
    package.write_text("no package")
    with pytest.raises(ReprkitError, match="dpkg-deb -x .* failed"):
        unpack("two-lines", work, "c", given=package, option="--deb FILE")


def test_missing_programs_and_downloads_without_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ReprkitError, match="apt-get is not installed on this machine: .* with --debs FOLDER"):
        unpack("two-lines", tmp_path, option="--debs FOLDER")
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text("#!/bin/sh\nexit 0\n")
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(ReprkitError, match="apt-get download two-lines left no file"):
        unpack("two-lines", tmp_path, option="--debs FOLDER")
