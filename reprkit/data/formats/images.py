"""Folders of images."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.collation import to_index
from reprkit.data.corrupt_files import CorruptFiles, labels_from_folders
from reprkit.data.folders import find_files
from reprkit.data.formats.image_files import Depths, Fit, read_image, suffixes, undecoded
from reprkit.data.formats.positional_file import RowFile
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError
from reprkit.interfaces import require
from reprkit.registry.constraints import Real, Share, Width
from reprkit.registry.references import Reference

MEMORY = 1 << 30  # bytes of decoded images that are kept in memory


class Images(Dataset):
    """All images below a folder, resized to one size, in the order of their relative paths.

    Fields: ``x`` image (h w c), float32 in [0, 1]; with ``labels`` also ``label``, the folder of the first
    level (the names are ``classes``).  ``reprkit.data.formats.image_files.read_image`` decodes and resizes them.

    Files are found by their suffix, which may be any that Pillow decodes (HEIC with pillow-heif).  ``facts`` says which files
    were ignored, by which rule, and which could not be read.  Links are followed.

    Every image is decoded once when the data set is constructed.  Up to 1 GiB of them (h · w · c bytes each, two times that
    with ``range``) stay in memory.  Beyond that they are decoded again for each batch, unless there is a ``cache``.

    Args:
        root: the folder; images may lie at any depth.
        size: (h, w), or one number for both.
        labels: whether the first folder level is the class.
        gray: one channel, else three.
        range: the values in the files that become 0 and 1, which keeps the levels of 16-bit pictures: (0, 4095) for 12
            bits, (0, 65535) for 16; also for floating-point pictures.  None: 0 to 255.  16-bit grayscale is then
            reduced to 8 bits, which ``facts`` says; if its values use less than a quarter of 16 bits, it is refused.
        fit: "crop" crops the center to the aspect ratio of ``size``, "pad" adds black borders, "stretch" distorts.
        cache: folder for the decoded images; they are read from there, and later runs reuse them
            unless the name, size or modification time of a file differs.
        max_corrupt: largest share of unreadable files that may be skipped; more is an error.

    Raises:
        PartArgumentError: a range whose ends are not in order.
        DataError: no such folder, no images in it, too many unreadable ones, or 16-bit pictures of a small range.
    """

    renamed_arguments = {"grey": "gray"}  # noqa: RUF012

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: Width | tuple[Width, Width] = 64,
        *,
        labels: bool = False,
        gray: bool = False,
        range: tuple[Real, Real] | None = None,
        fit: Fit = "crop",
        cache: str | os.PathLike[str] | None = None,
        max_corrupt: Share = 0.01,
    ) -> None:
        require(range is None or range[0] < range[1], f"dataset images: range={range} must rise")
        height, width = (size, size) if isinstance(size, int) else size
        corrupt, self._depths = CorruptFiles("images", max_corrupt), Depths()
        found = find_files(root, suffixes(), "images", undecoded=undecoded())
        self._root, paths = found.folder, found.names
        self._size, self._fit, self._gray, self._range = (height, width), fit, gray, range
        self._dtype = np.dtype(np.uint8 if range is None else "<u2")
        shape = (height, width, 1 if gray else 3)
        self._store: np.ndarray | RowFile | None = None
        self._file: Path | None = None
        if cache is not None:
            stem = Path(cache).expanduser() / f"images-{self._cache_key(paths)}"
            self._file = stem.with_suffix(".npy")
            self.files = _load_cache(stem, corrupt, self._depths) or self._write_cache(
                stem, paths, shape, corrupt
            )
        elif len(paths) * int(np.prod(shape)) * self._dtype.itemsize <= MEMORY:
            store = np.empty((len(paths), *shape), self._dtype)
            self.files = []
            for name, pixels in corrupt.iter_readable(paths, self._read):
                store[len(self.files)] = pixels
                self.files.append(name)
            self._store = store[: len(self.files)]
        else:
            self.files = [name for name, _ in corrupt.iter_readable(paths, self._read)]
        self._depths.check(self._root)
        corrupt.add_entries(found.unreadable)
        corrupt.check_share(len(paths) + len(found.unreadable), str(self._root))
        settings: dict[str, Any] = {"fit": fit} if fit != "crop" else {}
        settings |= {} if range is None else {"range": range}
        form = str(Reference("image", settings)) if settings else None
        fields = {"x": Field(kind="image", shape=shape, range=(0.0, 1.0), form=form)}
        self.facts: dict[str, Any] = {**corrupt.facts(), **found.facts(), **self._depths.facts()}
        self._labels: Tensor | None = None
        if labels:
            self._labels, fields["label"], self.facts["classes"] = labels_from_folders(self.files, self._root)
        self.signature = Signature(fields)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one image; a negative index counts from the end."""
        position = range(len(self))[index]
        return {name: value[0] for name, value in self.batch([position]).items()}

    def batch(self, indices: Tensor | Iterable[int]) -> dict[str, Tensor]:
        """Return the images at ``indices`` (b,).

        Raises:
            DataError: a file that was readable when the data set was constructed no longer is.
        """
        index = to_index(indices)
        if self._store is None and self._file is not None:
            self._store = self._open_cache(self._file)
        if self._store is not None:
            stored = self._store
            pixels = stored.read(index).numpy() if isinstance(stored, RowFile) else stored[index.numpy()]
        else:
            pixels = np.stack([self._read_again(self.files[position]) for position in index.tolist()])
        scale = 255 if self._range is None else 65535
        batch = {"x": torch.from_numpy(pixels.astype(np.float32)).div_(scale)}
        return batch if self._labels is None else {**batch, "label": self._labels[index]}

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self._root.resolve().name

    def identities(self) -> list[str]:
        """Return the path of each image below the folder."""
        return [Path(name).as_posix() for name in self.files]

    def label_values(self, field: str) -> Tensor:
        """Return the label of every image (n,); reads no file."""
        return super().label_values(field) if field != "label" or self._labels is None else self._labels

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a worker process, which opens the cache itself instead of copying it."""
        return {**self.__dict__, "_store": None if self._file is not None else self._store}

    def _read(self, name: str) -> np.ndarray:
        return read_image(
            self._root / name,
            self._size,
            fit=self._fit,
            gray=self._gray,
            range=self._range,
            depths=self._depths,
        )

    def _read_again(self, name: str) -> np.ndarray:
        try:
            return self._read(name)
        except Exception as error:
            raise DataError(
                f"{str(self._root / name)!r} was readable when the data set was constructed, and no longer is: {error}"
            ) from error

    @staticmethod
    def _open_cache(file: Path) -> RowFile:
        try:
            array = np.load(file, mmap_mode="r")
            dtype = torch.uint8 if array.dtype == np.uint8 else torch.uint16
            return RowFile(file, array.offset, array.shape[1:], dtype)
        except (OSError, ValueError) as error:
            raise DataError(f"the cache {str(file)!r} was removed or damaged: {error}") from error

    def _cache_key(self, names: list[str]) -> str:
        stats = [(name, (self._root / name).stat()) for name in names]
        files = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
        settings = [self._size, self._fit, self._gray, *([] if self._range is None else [self._range])]
        text = json.dumps([str(self._root.resolve()), *settings, files])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _write_cache(
        self, stem: Path, paths: list[str], shape: tuple[int, ...], corrupt: CorruptFiles
    ) -> list[str]:
        """Decode into the cache; both files are written atomically, the list of names last."""
        part = stem.with_suffix(f".{uuid.uuid4().hex}.part")  # unique for every rank, also on other machines
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            names: list[str] = []
            # Not written through a mapping: a disk that is full would end the process without an error.
            with part.open("wb") as file:
                header = {"descr": self._dtype.str, "fortran_order": False, "shape": (len(paths), *shape)}
                np.lib.format.write_array_header_1_0(file, header)
                start = file.tell()
                for name, pixels in corrupt.iter_readable(paths, self._read):
                    file.write(np.ascontiguousarray(pixels, dtype=self._dtype).tobytes())
                    names.append(name)
                file.truncate(start + len(paths) * math.prod(shape) * self._dtype.itemsize)
            os.replace(part, stem.with_suffix(".npy"))
            record = {
                "files": names,
                "count": corrupt.count,
                "named": corrupt.named,
                "depths": dataclasses.asdict(self._depths),
            }
            part.write_text(json.dumps(record), encoding="utf-8")
            os.replace(part, stem.with_suffix(".json"))
        except OSError as error:
            raise DataError(f"the cache {str(stem.parent)!r} cannot be written: {error}") from error
        finally:
            with contextlib.suppress(OSError):  # the first error is the one to report
                part.unlink(missing_ok=True)
        return names


def _load_cache(stem: Path, corrupt: CorruptFiles, depths: Depths) -> list[str] | None:
    """Return the file names of an earlier run's cache, if it exists and is complete."""
    try:
        record = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        np.load(stem.with_suffix(".npy"), mmap_mode="r")  # raises for a truncated file
        files, count, named = list(record["files"]), record["count"], record["named"]
        found = Depths(**record.get("depths", {}))  # caches of earlier versions lack them
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    corrupt.count, corrupt.named = count, named
    depths.gray, depths.peak, depths.colors = found.gray, found.peak, found.colors
    return files
