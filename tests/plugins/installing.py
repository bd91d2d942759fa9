"""Installs distributions with pip, offline, into a folder that stands for a fresh environment's site-packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import reprkit

ROOT = Path(reprkit.__file__).parents[1]


def install(site, *sources):
    """``pip install`` of source folders into ``site``; they are copied first: building leaves files behind."""
    for source in sources:
        copy = site.parent / "sources" / source.name
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
        offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
        done = run([sys.executable, "-m", "pip", "install", "-q", *offline, "--target", site, copy])
        assert done.returncode == 0, done.stdout + done.stderr


def run(command, *, site=None, cwd=None, **variables):
    """A command in an environment where ``site`` is on the path."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("REPRKIT_", "PIP_"))
    }
    environment["PYTHONPATH"] = os.pathsep.join(str(each) for each in (site, ROOT) if each)
    environment["COLUMNS"] = "200"
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=290,
    )


def reprkit_command(*args, site=None, cwd=None):
    """The command line, in a process of its own."""
    return run([sys.executable, "-m", "reprkit", *args], site=site, cwd=cwd)
