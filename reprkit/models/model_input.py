"""Data for a trained model: data sets, tables and picture files in the sizes and columns that it learned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.raw_files import list_files, raw_files
from reprkit.data.raw_input import as_batch
from reprkit.data.signature import Signature
from reprkit.errors import DataError
from reprkit.models.embedding import as_dataset

if TYPE_CHECKING:
    from reprkit.models.model import Model


class PictureFiles(Dataset):
    """Picture files as a model reads them: converted to its size and channels, one batch in memory at a time.

    Raises DataError for a picture that cannot be read.

    Args:
        files: the pictures, in order.
        signature: of the model; only the image field ``name`` is kept.
        name: the field.
    """

    def __init__(self, files: Sequence[Path], signature: Signature, name: str = "x") -> None:
        self.files, self._learned = tuple(files), signature
        self.signature = Signature({name: signature[name]})
        stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        self.facts = {
            "files": hashlib.sha256(repr(stats).encode()).hexdigest()
        }  # what a resumed rk.embed compares

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one picture (h w c)."""
        return {name: value[0] for name, value in self.batch([index]).items()}

    def batch(self, indices: Iterable[int] | Tensor) -> dict[str, Tensor]:
        """Read the pictures of these numbers (b h w c)."""
        chosen = [self.files[index] for index in torch.as_tensor(list(indices)).tolist()]
        try:
            return as_batch(chosen, self._learned)
        except DataError:
            raise
        except Exception as error:  # Pillow raises many kinds
            listed = ", ".join(str(file) for file in chosen[:3]) + (", ..." if len(chosen) > 3 else "")
            raise DataError(f"a picture of {listed} cannot be read: {error}") from error


def model_input(model: Model, sources: Sequence[Any]) -> Dataset:
    """Return what a user names as a data set that the model reads.

    Args:
        model: a model; the data is checked against its signature.
        sources: one data set, reference, table, array or folder, as for ``rk.embed``; or several files.  Pictures are
            read in the model's size and channels (``PictureFiles``), sound and text files through its front end or vocabulary
            (``RawFiles``); so are folders of such files alone.

    Raises:
        DataError: nothing is given, several that are no picture files, a file that does not exist, or data that does not fit.
    """
    from reprkit.data.formats.image_files import suffixes

    if not sources:
        raise DataError("no data is given: name a data set, or files")
    signature = model.signature
    if signature is not None and "x" in signature and signature["x"].kind == "image":
        files = list_files(sources, suffixes())
        if files:
            return PictureFiles(files, signature)
    found = raw_files(sources, signature)
    if found is not None:
        return found
    if len(sources) > 1:
        raise DataError(
            f"{len(sources)} inputs are given, and several at once are files that the model reads: pictures, sound or text\n"
            "  give one data set, one table, or one folder"
        )
    return as_dataset(model, sources[0])


def input_names(data: Dataset) -> list[str] | None:
    """Return the name of each example's file without its suffix, made unique; None where the data set knows no files."""
    files = getattr(data, "files", None)
    if files is None or len(files) != len(data):
        return None
    names = [Path(file).stem for file in files]
    return (
        names
        if len(set(names)) == len(names)
        else [f"{index:05d}-{name}" for index, name in enumerate(names)]
    )
