"""The folder that a recipe writes to: nothing that it holds is lost unless that was asked for.  Torch-free."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from reprkit.errors import TrainingError
from reprkit.runs.contents import describe_contents, find_content


def recipe_folder(out: Path, *, given: bool, resume: bool, overwrite: bool) -> Path:
    """Return the folder to write to; where it is another one than ``out``, say so on stderr.

    A folder that the user gave and that holds runs is refused.  The recipe's own default was not chosen by the user: a new run
    then goes to ``OUT-2``, ``OUT-3``, ..., and a resume continues the newest of these.  With several processes the loop alone
    checks, since one of them may have begun to write.

    Args:
        out: the folder, given or by default.
        given: whether it was given on the command line.
        resume: whether to continue the runs in it.
        overwrite: whether to replace the runs in it.

    Raises:
        TrainingError: it was given, holds runs, and is neither to be resumed nor to be overwritten.
    """
    if int(os.environ.get("WORLD_SIZE", "1") or 1) > 1 or overwrite or (given and resume):
        return out
    if given:
        if any(find_content(out)):
            raise TrainingError(
                f"{out} holds runs:\n  {describe_contents(out)}\n"
                "  give another folder by --out, or --resume to continue them, or --overwrite to replace them"
            )
        return out
    used = [folder for folder in _numbered(out) if any(find_content(folder))]
    if not used:
        return out
    if resume:
        if used[-1] != out:
            print(
                f"continuing {used[-1]}, the newest of {len(used)}; another one: --out DIR --resume",
                file=sys.stderr,
            )
        return used[-1]
    fresh = next_folder(out)
    print(
        f"{used[-1]} holds runs, so this one is written to {fresh} (--resume continues them, --overwrite replaces those in {out})",
        file=sys.stderr,
    )
    return fresh


def next_folder(out: Path) -> Path:
    """Return ``OUT-2``, ``OUT-3``, ..., the first one after all that hold something; ``OUT`` where none does."""
    used = [folder for folder in _numbered(out) if any(find_content(folder))]
    return out.with_name(f"{out.name}-{_number(out, used[-1]) + 1}") if used else out


def _numbered(out: Path) -> list[Path]:
    """Return the folders ``OUT``, ``OUT-2``, ... that exist, by number."""
    if not out.parent.is_dir():
        return []
    found = [path for path in out.parent.iterdir() if path.is_dir() and _number(out, path)]
    return sorted(found, key=lambda path: _number(out, path))


def _number(out: Path, path: Path) -> int:
    """Return the number of a folder, 1 for ``OUT`` itself; 0 if it is another one."""
    if path.name == out.name:
        return 1
    match = re.fullmatch(re.escape(out.name) + r"-([2-9]|[1-9]\d{1,8})", path.name)
    return int(match[1]) if match else 0
