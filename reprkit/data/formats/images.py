"""A folder of pictures."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.collate import to_index
from reprkit.data.corrupt_files import CorruptFiles, classes_from_folders, find_files
from reprkit.data.formats.image_files import SUFFIXES, Fit, read_image
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError
from reprkit.registry.constraints import Share, Width

MEMORY = 1 << 30  # bytes of decoded pictures that are kept in memory without asking


class Images(Dataset):
    """All pictures below a folder, of one size, in the order of their relative paths.

    Fields: ``x`` image (h w c), float32 in [0, 1]; with ``labels`` also ``label``, the folder of the first
    level (its names are ``classes``).  How a picture becomes 8-bit values: ``reprkit.data.formats.image_files.read_image``.

    Every picture is decoded once when the set is made.  Up to 1 GiB of them (h · w · c bytes each) stay in
    memory.  Beyond that they are decoded again for each batch, unless there is a ``cache``.

    Args:
        root: the folder; pictures may lie at any depth.
        size: (h, w), or one number for both.
        labels: whether the first folder level is the class.
        gray: one channel, else three.
        fit: "crop" cuts the middle to the shape of ``size``, "pad" adds black borders, "stretch" distorts.
        cache: a folder for the decoded pictures; they are mapped from there, and found again by the next run
            as long as no file's name, size or time of change differs.
        max_corrupt: the largest share of unreadable files that is left out; more is an error.

    Raises:
        DataError: no such folder, no pictures in it, or too many that cannot be read.
    """

    renamed_arguments = {"grey": "gray"}  # noqa: RUF012

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: Width | tuple[Width, Width] = 64,
        *,
        labels: bool = False,
        gray: bool = False,
        fit: Fit = "crop",
        cache: str | os.PathLike[str] | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        corrupt = CorruptFiles("pictures", max_corrupt)
        self._root, found = find_files(root, SUFFIXES, "pictures")
        self._size, self._fit, self._gray = (height, width), fit, gray
        shape = (height, width, 1 if gray else 3)
        self._store: np.ndarray | None = None
        self._file: Path | None = None
        if cache is not None:
            stem = Path(cache).expanduser() / f"images-{self._key(found)}"
            self._file = stem.with_suffix(".npy")
            self.files = _cached(stem, corrupt) or self._fill(stem, found, shape, corrupt)
        elif len(found) * int(np.prod(shape)) <= MEMORY:
            store = np.empty((len(found), *shape), np.uint8)
            self.files = []
            for name, pixels in corrupt.iter_readable(found, self._read):
                store[len(self.files)] = pixels
                self.files.append(name)
            self._store = store[: len(self.files)]
        else:
            self.files = [name for name, _ in corrupt.iter_readable(found, self._read)]
        corrupt.check_share(len(found), str(self._root))
        fields = {"x": Field(kind="image", shape=shape, range=(0.0, 1.0))}
        self.facts: dict[str, Any] = corrupt.facts()
        self._labels: Tensor | None = None
        if labels:
            known, places = classes_from_folders(self.files, self._root)
            self.facts["classes"] = known
            self._labels = torch.tensor(places)
            fields["label"] = Field(kind="label", shape=(), vocab=len(known))
        self.signature = Signature(fields)

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One picture; a negative index counts from the end."""
        place = range(len(self))[index]
        return {name: value[0] for name, value in self.batch([place]).items()}

    def batch(self, indices: Tensor | Iterable[int]) -> dict[str, Tensor]:
        """The pictures of these indices (b,).

        Raises:
            DataError: a file that was readable when the set was made no longer is.
        """
        index = to_index(indices)
        if self._store is None and self._file is not None:
            self._store = self._mapped(self._file)
        if self._store is not None:
            pixels = self._store[index.numpy()]
        else:
            pixels = np.stack([self._again(self.files[place]) for place in index.tolist()])
        made = {"x": torch.from_numpy(pixels).float().div_(255)}
        return made if self._labels is None else {**made, "label": self._labels[index]}

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._root.resolve().name

    def __getstate__(self) -> dict[str, Any]:
        """For a worker process: a mapped file is opened there again, not copied."""
        return {**self.__dict__, "_store": None if self._file is not None else self._store}

    def _read(self, name: str) -> np.ndarray:
        return read_image(self._root / name, self._size, fit=self._fit, gray=self._gray)

    def _again(self, name: str) -> np.ndarray:
        try:
            return self._read(name)
        except Exception as error:
            raise DataError(
                f"{str(self._root / name)!r} could be read when the data set was made, and now cannot: {error}"
            ) from error

    @staticmethod
    def _mapped(file: Path) -> np.ndarray:
        try:
            return np.load(file, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise DataError(
                f"the cache {str(file)!r} is gone or damaged since it was made: {error}"
            ) from error

    def _key(self, found: list[str]) -> str:
        stats = [(name, (self._root / name).stat()) for name in found]
        facts = [[name, each.st_size, each.st_mtime_ns] for name, each in stats]
        text = json.dumps([str(self._root.resolve()), self._size, self._fit, self._gray, facts])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _fill(self, stem: Path, found: list[str], shape: tuple[int, ...], corrupt: CorruptFiles) -> list[str]:
        """Decode into the cache; both files appear whole, the list of names last."""
        part = stem.with_suffix(f".{uuid.uuid4().hex}.part")  # its own on every rank, also of other machines
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            store = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=(len(found), *shape))
            names: list[str] = []
            for name, pixels in corrupt.iter_readable(found, self._read):
                store[len(names)] = pixels
                names.append(name)
            store.flush()
            os.replace(part, stem.with_suffix(".npy"))
            record = {"files": names, "count": corrupt.count, "named": corrupt.named}
            part.write_text(json.dumps(record), encoding="utf-8")
            os.replace(part, stem.with_suffix(".json"))
        except OSError as error:
            raise DataError(f"the cache {str(stem.parent)!r} cannot be written: {error}") from error
        finally:
            with contextlib.suppress(OSError):  # what went wrong before is what is told
                part.unlink(missing_ok=True)
        return names


def _cached(stem: Path, corrupt: CorruptFiles) -> list[str] | None:
    """The files of an earlier run's cache, if it is there and whole."""
    try:
        record = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        np.load(stem.with_suffix(".npy"), mmap_mode="r")  # refuses a file that was cut short
        files, count, named = list(record["files"]), record["count"], record["named"]
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    corrupt.count, corrupt.named = count, named
    return files
