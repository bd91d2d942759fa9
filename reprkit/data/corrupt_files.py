"""Files of a data set: found in a fixed order, looked at once, and the unreadable ones skipped by name.

All files are read once when the set is made.  What cannot be read never gets an index, so it changes neither the
order of the others nor a resume, and every rank leaves out the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from reprkit.errors import DataError

NAMED = 20  # how many of the skipped are named; all are counted

Item = TypeVar("Item")
Made = TypeVar("Made")


def find_files(root: Any, suffixes: Collection[str], what: str) -> tuple[Path, list[str]]:
    """The folder and its files of these suffixes, at any depth: sorted relative paths with ``/``.

    Hidden files and folders (a name that starts with a dot) are left out.

    Raises:
        DataError: no such folder, a file in its place, or no file of these suffixes below it.
    """
    folder = Path(root).expanduser()
    if not folder.exists():
        raise DataError(f"no folder {str(folder)!r} (looked in {Path.cwd()})")
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is a file; root= is the folder that holds the {what}")
    names = [each.relative_to(folder) for each in folder.rglob("*") if each.is_file()]
    seen = [each for each in names if not any(part.startswith(".") for part in each.parts)]
    found = sorted(each.as_posix() for each in seen if each.suffix.lower() in suffixes)
    if not found:
        others = sorted({each.suffix.lower() or each.name for each in seen})
        raise DataError(
            f"the folder {str(folder)!r} holds no {what} ({', '.join(sorted(suffixes))}) at any depth\n"
            f"  it holds: {', '.join(others[:10]) or 'no files at all'}"
        )
    return folder, found


def classes_from_folders(names: Iterable[str], root: Path) -> tuple[list[str], list[int]]:
    """The classes that the first folder level names, sorted, and each file's class.

    Raises:
        DataError: a file that lies in no folder.
    """
    firsts = []
    for name in names:
        first, _, rest = name.partition("/")
        if not rest:
            raise DataError(
                f"labels=True: {first!r} lies directly in {str(root)!r}, so it has no class\n"
                "  put each class's files into a folder of their own, or leave labels=False"
            )
        firsts.append(first)
    known = sorted(set(firsts))
    places = {name: place for place, name in enumerate(known)}
    return known, [places[name] for name in firsts]


class CorruptFiles:
    """What was left out, and why.

    Args:
        what: the things that are read, in the plural, for messages.
        most: the largest share that may be left out, in [0, 1].
    """

    def __init__(self, what: str, most: float) -> None:
        self.what, self.most = what, most
        self.count, self.named = 0, list[dict[str, str]]()

    def add(self, name: str, why: str) -> None:
        """Count it, and keep its name while there is room."""
        self.count += 1
        if len(self.named) < NAMED:
            self.named.append({"name": name, "why": why})

    def vetted(self, items: Iterable[Item], read: Callable[[Item], Made]) -> Iterator[tuple[Item, Made]]:
        """The items that can be read, each with what reading gave; the others are added here."""
        for item in items:
            try:
                made = read(item)
            except MemoryError:
                raise
            except Exception as error:  # decoders raise anything; it is kept, counted and named
                self.add(str(item), f"{type(error).__name__}: {error}".splitlines()[0][:200])
            else:
                yield item, made

    def judge(self, total: int, where: str) -> None:
        """Refuse a set of which too much was left out.

        Raises:
            DataError: nothing is left, or a larger share than ``most`` was left out.
        """
        if self.count and (self.count >= total or self.count > self.most * total):
            first = "\n".join(f"  {each['name']}: {each['why']}" for each in self.named[:5])
            amount = "none" if self.count >= total else f"only {total - self.count}"
            raise DataError(
                f"{amount} of the {total} {self.what} in {where!r} can be read; at most max_corrupt="
                f"{self.most:g} of them may be left out. The first ones:\n{first}\n"
                "  mend or remove them, or allow more with max_corrupt="
            )

    def facts(self) -> dict[str, Any]:
        """For ``describe``: how many were left out, and the first ones' names and reasons."""
        return {"skipped": self.named, "skipped_count": self.count} if self.count else {}
