"""Read each file of a data set once, and skip and report the unreadable ones.

All files are read once when the data set is constructed.  An unreadable file never gets an index, so it changes neither the
order of the others nor a resumed run, and every rank skips the same files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from reprkit.data.signature import Field
from reprkit.errors import DataError

NAMED = 20  # skipped items that are named; all are counted

Item = TypeVar("Item")
Value = TypeVar("Value")


def labels_from_folders(names: Iterable[str], root: Path) -> tuple[Tensor, Field, list[str]]:
    """Return the class index of each file, the field of these labels, and the class names: the sorted folders of the first level.

    Raises:
        DataError: a file that lies directly in ``root``.
    """
    firsts = []
    for name in names:
        first, _, rest = name.partition("/")
        if not rest:
            raise DataError(
                f"labels=True: {first!r} lies directly in {str(root)!r}, so it has no class\n"
                "  put the files of each class into a folder of their own, or use labels=False"
            )
        firsts.append(first)
    classes = sorted(set(firsts))
    indices = {name: index for index, name in enumerate(classes)}
    labels = torch.tensor([indices[name] for name in firsts])
    return labels, Field(kind="label", shape=(), vocab=len(classes), classes=tuple(classes)), classes


class CorruptFiles:
    """Record of skipped items (files, rows, lines) and the reasons.

    Args:
        what: name of the items in the plural, for messages.
        max_share: largest share of items that may be skipped, in [0, 1].
    """

    def __init__(self, what: str, max_share: float) -> None:
        self.what, self.max_share = what, max_share
        self.count, self.named = 0, list[dict[str, str]]()

    def add(self, name: str, why: str) -> None:
        """Count a skipped item; the first ``NAMED`` are kept with name and reason."""
        self.count += 1
        if len(self.named) < NAMED:
            self.named.append({"name": name, "why": why})

    def add_entries(self, unreadable: Iterable[tuple[str, str]]) -> None:
        """Count entries of a folder that cannot be read: (name, reason)."""
        for name, why in unreadable:
            self.add(name, why)

    def add_all(self, other: CorruptFiles) -> None:
        """Count the items of another record, too."""
        self.add_entries((each["name"], each["why"]) for each in other.named)
        self.count += other.count - len(other.named)

    def iter_readable(
        self, items: Iterable[Item], read: Callable[[Item], Value]
    ) -> Iterator[tuple[Item, Value]]:
        """Iterate over the readable items, each with the value that ``read`` returned; the others are recorded as skipped."""
        for item in items:
            try:
                value = read(item)
            except MemoryError:
                raise
            except Exception as error:  # decoders raise any exception
                self.add(str(item), f"{type(error).__name__}: {error}".splitlines()[0][:200])
            else:
                yield item, value

    def check_share(self, total: int, where: str) -> None:
        """Raise if too many of ``total`` items were skipped.

        Raises:
            DataError: nothing is left, or a larger share than ``max_share`` was skipped.
        """
        if self.count and (self.count >= total or self.count > self.max_share * total):
            first = "\n".join(f"  {each['name']}: {each['why']}" for each in self.named[:5])
            amount = "none" if self.count >= total else f"only {total - self.count}"
            raise DataError(
                f"{amount} of the {total} {self.what} in {where!r} can be read; at most max_corrupt="
                f"{self.max_share:g} of them may be skipped. The first ones:\n{first}\n"
                "  repair or remove them, or allow more with max_corrupt="
            )

    def facts(self) -> dict[str, Any]:
        """Return the entries for ``describe``: number of skipped items, and names and reasons of the first ones."""
        return {"skipped": self.named, "skipped_count": self.count} if self.count else {}
