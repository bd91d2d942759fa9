"""What made a run, so that it can be made again: the recipe's source and arguments, the git commit, the installed packages.

::

    OUT/source/NAME.py        the recipe, or the script that was started
    OUT/source/packages.txt   every installed package and its version, as pip writes them

``run.json`` has the rest under "source".  Does not import torch.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprkit.errors import ReprkitError
from reprkit.runs.filenames import PACKAGES, SOURCE
from reprkit.utils.atomic_files import write_bytes, write_text

_MAX_SOURCE = 1 << 20  # bytes; a longer script is recorded by its hash alone
_TIMEOUT = 10  # seconds for git
_COMMANDS = "reprkit.commands"


@dataclass
class Recipe:
    """The recipe that this process runs.

    Attributes:
        file: its source.
        arguments: of the command line, after the recipe's name.
        out: the folder that it writes to, if it has such a parameter.
        has_flags: whether it is run by ``rk.recipe``, which gives it flags such as ``--overwrite``.
        resumable: whether it has a flag ``--resume``.
        command: the name of the reprkit command that it is, ``train``; None for a recipe or script.
    """

    file: Path
    arguments: list[str] = field(default_factory=list)
    out: str | None = None
    has_flags: bool = False
    resumable: bool = False
    command: str | None = None


_current: ContextVar[Recipe | None] = ContextVar("recipe", default=None)


@contextmanager
def use_recipe(main: Callable[..., Any]) -> Iterator[Recipe]:
    """Context in which runs are recorded as those of the recipe whose function ``main`` is, with this process's command line."""
    try:
        file = Path(inspect.getsourcefile(inspect.unwrap(main)) or "")
    except TypeError:
        file = Path()
    resumable = "resume" in inspect.signature(main).parameters
    recipe = Recipe(file, sys.argv[1:], has_flags=True, resumable=resumable)
    package, _, module = inspect.unwrap(main).__module__.rpartition(".")
    if package == _COMMANDS:
        recipe.command = module
    token = _current.set(recipe)
    try:
        yield recipe
    finally:
        _current.reset(token)


def find_recipe() -> Recipe | None:
    """Return the recipe that this process runs, or the script that it was started with; None in a notebook or a command."""
    recipe = _current.get()
    if recipe is not None:
        return recipe if recipe.file.is_file() else None
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None or getattr(main, "__spec__", None) is not None or Path(file).suffix != ".py":
        return None
    return Recipe(Path(file), sys.argv[1:]) if Path(file).is_file() else None


def record_origin(out: Path) -> dict[str, Any]:
    """Write the source and the list of packages to ``OUT/source``, and return what ``run.json`` says of them.

    Source that an earlier process of the run had is kept in the same folder.  A folder of this name that reprkit has not made is
    not changed: then only the digest is recorded.

    Raises:
        OSError: they cannot be written.
    """
    folder = out / SOURCE
    is_own = not folder.exists() or (folder / PACKAGES).is_file()
    if is_own:
        folder.mkdir(parents=True, exist_ok=True)
        packages = installed_packages()
        write_text(folder / PACKAGES, "".join(f"{name}=={version}\n" for name, version in packages.items()))
    recipe = find_recipe()
    described: dict[str, Any] = {}
    if recipe is not None and recipe.command is not None:
        described = _describe_command(recipe)
    elif recipe is not None:
        content = recipe.file.read_bytes()
        described = {
            "name": recipe.file.stem,
            "path": str(recipe.file.resolve()),
            "sha256": hashlib.sha256(content).hexdigest(),
            "arguments": recipe.arguments,
            **_describe_flags(recipe),
        }
        if is_own and len(content) <= _MAX_SOURCE:
            described["file"] = f"{SOURCE}/{_write_source(folder, recipe.file, content)}"
    commit = None
    if recipe is not None:
        commit = git_commit(recipe.file.resolve().parent)
    elif not hasattr(sys.modules.get("__main__"), "__file__"):  # a notebook or an interactive session
        commit = git_commit(Path.cwd())
    return {
        **({"recipe": described} if described else {}),
        **({"git": commit} if commit else {}),
        **({"packages": f"{SOURCE}/{PACKAGES}"} if is_own else {}),
    }


def _describe_command(recipe: Recipe) -> dict[str, Any]:
    """Describe a run of a reprkit command, whose source is that of the installed package."""
    # Within another program the process's command line is not that of the command.
    known = recipe.arguments[:1] == [recipe.command]
    return {
        "name": f"reprkit {recipe.command}",
        "command": recipe.command,
        **({"arguments": recipe.arguments[1:]} if known else {}),
        **_describe_flags(recipe),
    }


def _describe_flags(recipe: Recipe) -> dict[str, Any]:
    return {
        **({"out": recipe.out} if recipe.out is not None else {}),
        "has_flags": recipe.has_flags,
        "resumable": recipe.resumable,
    }


def _write_source(folder: Path, file: Path, content: bytes) -> str:
    """Write the source under a name that no other content has; return the name."""
    names = (f"{file.stem}{f'-{number}' if number > 1 else ''}{file.suffix}" for number in itertools.count(1))
    name = next(
        name for name in names if not (folder / name).exists() or (folder / name).read_bytes() == content
    )
    if not (folder / name).exists():
        write_bytes(folder / name, content)
    return name


@functools.cache
def installed_packages() -> dict[str, str]:
    """Return name -> version of the packages on ``sys.path``, sorted, from the names of their records alone."""
    found: dict[str, str] = {}
    for entry in sys.path:
        try:
            names = os.listdir(entry or ".")
        except OSError:
            continue
        for name in names:
            match = re.fullmatch(r"([A-Za-z0-9][\w.]*?)-([^-]+)(?:-py[\d.]+)?\.(?:dist-info|egg-info)", name)
            if match:  # the first one on the path is the one that is imported
                found.setdefault(re.sub(r"[-_.]+", "-", match[1]).lower(), match[2])
    return dict(sorted(found.items()))


@functools.cache
def git_commit(folder: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout that a folder is in, and whether its files were changed since; None outside of one."""
    git = shutil.which("git")
    if git is None or not Path(git).is_absolute():
        return None

    def call(*arguments: str) -> str | None:
        # The checkout's own settings could name a program to run.
        command = [
            git,
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
            "-C",
            str(folder),
            *arguments,
        ]
        environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT, env=environment, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout if done.returncode == 0 else None

    commit = call("rev-parse", "HEAD")
    if commit is None:
        return None
    changed = call("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit.strip(), **({} if changed is None else {"changed": bool(changed.strip())})}


def read_packages(out: Path) -> dict[str, str]:
    """Read the packages that a run was made with; empty if they are not recorded.

    Raises:
        ReprkitError: the list cannot be read.
    """
    path = out / SOURCE / PACKAGES
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ReprkitError(f"{path} cannot be read: {error}") from error
    return {name: version for name, _, version in (line.partition("==") for line in lines) if version}
