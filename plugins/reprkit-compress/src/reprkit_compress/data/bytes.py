"""Data set of the bytes of any files, for models that compress without loss."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from reprkit import Dataset, Field, Signature
from reprkit.data.base import Piece
from reprkit.data.collation import to_index
from reprkit.data.folders import find_files
from reprkit.errors import DataError
from reprkit.registry.constraints import Count

FORM = "bytes"
SUFFIXES = frozenset((".csv", ".html", ".json", ".log", ".md", ".py", ".rst", ".tex", ".tsv", ".txt", ".xml"))
_BLOCK = 2**12  # bytes that stay in one part of a split


class Bytes(Dataset):
    """The bytes of a file, or of all text files below a folder, in windows without overlap.

    Field: ``x`` tokens (window,), the bytes as they are, 256 symbols.  The rest at a file's end is covered by a last window that
    ends with it; a shorter file is left out.  ``split`` divides by sections of 4 kB.  A causal model of them compresses files of
    these suffixes without loss (``reprkit compress``).

    Args:
        root: a file of any suffix, or a folder of text files (.txt, .md, .csv, .json, .py and the like).
        window: number of bytes of an example.

    Raises:
        DataError: no such file, no files in the folder, or none that is as long as a window.
    """

    raw_suffixes: ClassVar[frozenset[str]] = SUFFIXES

    def __init__(self, root: str | os.PathLike[str], *, window: Count = 128) -> None:
        path = Path(root).expanduser()
        names = [""] if path.is_file() else find_files(root, SUFFIXES, "text files").names
        parts, firsts, places, total = list[np.ndarray](), list[int](), list[str](), 0
        self._files = list[Path | None]()  # of each window; None for one that overlaps another
        for name in names:
            content = np.frombuffer(_read(path / name if name else path), np.uint8)
            starts = [*range(0, len(content) - window, window), len(content) - window]
            if len(content) >= window:
                firsts += [total + start for start in starts]
                self._files += [path / name if start % window == 0 else None for start in starts]
                places += [f"{name}:{start // _BLOCK}" for start in starts]
            parts.append(content)
            total += len(content)
        if not firsts:
            raise DataError(f"no file of {str(root)!r} has window={window} bytes")
        self._bytes, self._first, self._places = np.concatenate(parts), np.array(firsts), places
        self._name = path.resolve().name
        self.signature = Signature({"x": Field(kind="tokens", shape=(window,), vocab=256, form=FORM)})

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._first)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one window; a negative index counts from the end."""
        return {name: value[0] for name, value in self.batch([range(len(self))[index]]).items()}

    def batch(self, indices: Tensor | Iterable[int]) -> dict[str, Tensor]:
        """Return the windows of these indices (b window)."""
        steps = np.arange(self.signature["x"].shape[0] or 0)
        rows = self._bytes[self._first[to_index(indices).numpy()][:, None] + steps]
        return {"x": torch.from_numpy(rows.astype(np.int64))}

    def identities(self) -> list[str]:
        """Return the section of each window."""
        return list(self._places)

    @property
    def name(self) -> str:
        """Name of the file or folder."""
        return self._name

    def raw(self, index: int) -> Path | None:
        """Return the window's file; None for a last window that overlaps the one before."""
        return self._files[range(len(self))[index]]

    @classmethod
    def read_raw(cls, value: str | Path, field: Field) -> list[Tensor]:
        """Return the bytes of a file, or of a text in UTF-8, in windows of the field's length without overlap.

        Raises:
            DataError: the file cannot be read, or is shorter than a window.
        """
        content = value.encode() if isinstance(value, str) else _read(value)
        symbols = torch.from_numpy(np.frombuffer(content, np.uint8).astype(np.int64))
        window = field.shape[0] or len(symbols)
        if len(symbols) < window or not window:
            raise DataError(f"it has {len(symbols)} bytes, and the model reads windows of {window}")
        return list(symbols[: len(symbols) // window * window].split(window))

    @classmethod
    def writes_files(cls, field: Field, output: Field) -> bool:
        """Whether the model's output is bytes again."""
        return output.form == FORM and field.form == FORM

    @classmethod
    def read_pieces(cls, path: Path, field: Field, steps: int | None, margin: int) -> Iterator[Piece]:
        """Yield the bytes of a file, whole or in pieces; a unit is a byte."""
        symbols = torch.from_numpy(np.frombuffer(_read(path), np.uint8).astype(np.int64))
        size = steps or max(len(symbols), 1)
        for start in range(0, len(symbols), size):
            own, before = min(size, len(symbols) - start), min(margin, start)
            yield Piece(symbols[start - before : start + own + margin], before, own, own)

    @classmethod
    def write_pieces(cls, path: Path, pieces: Iterable[Tensor], field: Field, units: int) -> None:
        """Write the bytes of the pieces as one file, of any suffix."""
        joined = b"".join(piece.cpu().numpy().astype(np.uint8).tobytes() for piece in pieces)
        try:
            path.write_bytes(joined[:units])
        except OSError as error:
            raise DataError(f"cannot write {str(path)!r}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error}") from error
