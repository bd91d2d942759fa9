"""Files and texts of a user as examples of a trained model, read by the data set that declares the form of its field."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.collation import collate
from reprkit.data.folders import walk_folder
from reprkit.data.regular_files import check_regular
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError
from reprkit.registry.registry import default_registry

if TYPE_CHECKING:
    from reprkit.registry.registry import Registry

_SHOWN = 80  # characters of a text in a message
_KEPT = 64  # files whose examples are kept in memory


def form_reader(field: Field, registry: Registry | None = None) -> type[Dataset] | None:
    """Return the class of the data set that reads files for this field; None where no installed plugin declares its form.

    Raises:
        DataError: several plugins declare the form.
        PartImportError: its module cannot be imported.
    """
    if field.form is None:
        return None
    name = field.form.partition("(")[0].rpartition("/")[2]
    known = registry or default_registry()
    found = [part for part in known.specs("dataset") if name in part.spec.forms and not part.missing]
    if len(found) > 1:
        listed = ", ".join(part.qualified for part in found)
        raise DataError(f"several data sets read the form {name!r}: {listed}; uninstall all but one")
    if not found:
        return None
    loaded: type[Dataset] = known.load("dataset", found[0].qualified)
    return loaded


def read_examples(values: Iterable[str | Path], field: Field, reader: type[Dataset]) -> list[list[Tensor]]:
    """Return the examples of each value.

    A Path is a file, and so is a text that ends in one of the reader's suffixes and is the name of a file or one word.

    Raises:
        DataError: a file that does not exist or cannot be read, or a value that holds no example.
    """
    found = []
    for value in values:
        source = _as_path(value, reader.raw_suffixes)
        try:
            examples = reader.read_raw(source, field)
        except DataError as error:
            raise DataError(f"{_show(source)}: {error}") from error
        if not examples:
            raise DataError(f"{_show(source)} holds no example of {field.kind} ({field.axes})")
        found.append(examples)
    return found


def _show(source: str | Path) -> str:
    return repr(str(source) if len(str(source)) <= _SHOWN else f"{str(source)[:_SHOWN]}...")


def _as_path(value: str | Path, suffixes: Collection[str]) -> str | Path:
    if isinstance(value, str):
        if os.path.splitext(value)[1].lower() not in suffixes:
            return value
        if len(value.split()) > 1 and not os.path.isfile(value):
            return value
    path = check_regular(Path(value).expanduser())
    if not path.is_file():
        raise DataError(
            f"{str(path)!r} is a folder: give its files, or a data set"
            if path.is_dir()
            else f"no file {str(path)!r} (looked in {Path.cwd()})"
        )
    return path


def list_files(sources: Sequence[Any], suffixes: Collection[str]) -> list[Path]:
    """Return the files, if all sources are files with these suffixes, or the only one is a folder of such files alone; else none.

    Raises:
        DataError: a file that does not exist.
    """
    if not suffixes or not all(isinstance(source, str | os.PathLike) for source in sources):
        return []
    paths = [Path(source).expanduser() for source in sources]
    if len(paths) == 1 and paths[0].is_dir():
        inside = [(name, error) for name, rule, error in walk_folder(paths[0]) if rule is None]
        if any(error or os.path.splitext(name)[1].lower() not in suffixes for name, error in inside):
            return []
        return [paths[0] / name for name in sorted(name for name, _ in inside)]
    if not all(path.suffix.lower() in suffixes for path in paths):
        return []
    for path in paths:
        if not check_regular(path).is_file():
            raise DataError(f"no file {str(path)!r} (looked in {Path.cwd()})")
    return paths


class RawFiles(Dataset):
    """Files as a trained model reads them: through the vocabulary or front end that the form of its field names.

    The files are read once at construction, to count their examples, and again on access; those of the last 64 files are kept.

    Args:
        files: in order.
        signature: of the model; only the field ``name`` is kept.
        reader: the data set that declares the field's form.
        name: the field.

    Raises:
        DataError: a file cannot be read, or holds no example.
    """

    def __init__(
        self, files: Sequence[Path], signature: Signature, reader: type[Dataset], name: str = "x"
    ) -> None:
        self._sources, self._reader, self._field = tuple(files), reader, name
        self.signature = Signature({name: signature[name]})
        self._kept: dict[int, list[Tensor]] = {}
        counts = [len(self._read(index)) for index in range(len(files))]
        self._owners = [(index, place) for index, count in enumerate(counts) for place in range(count)]
        self.files = tuple(self._sources[index] for index, _ in self._owners)  # of each example
        stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in self._sources]
        self.facts = {
            "files": hashlib.sha256(repr(stats).encode()).hexdigest()
        }  # what a resumed rk.embed compares

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self._owners)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one example."""
        number, place = self._owners[index]
        return {self._field: self._read(number)[place]}

    def batch(self, indices: Iterable[int] | Tensor) -> dict[str, Tensor]:
        """Return the examples of these numbers (b ...), padded with a mask where lengths vary."""
        chosen = torch.as_tensor(list(indices)).tolist()
        return collate([self[index] for index in chosen], self.signature)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for another process, which reads the files itself."""
        return {**self.__dict__, "_kept": {}}

    def _read(self, index: int) -> list[Tensor]:
        if index not in self._kept:
            while len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            [self._kept[index]] = read_examples(
                [self._sources[index]], self.signature[self._field], self._reader
            )
        return self._kept[index]


def raw_files(sources: Sequence[Any], signature: Signature | None) -> RawFiles | None:
    """Return the files, or those of the only folder, as a data set of a model's signature; None where its form reads no such files.

    Raises:
        DataError: a file that does not exist, cannot be read, or holds no example.
    """
    if signature is None:
        return None
    name = "x" if "x" in signature else next(iter(signature))
    reader = form_reader(signature[name])
    files = [] if reader is None else list_files(sources, reader.raw_suffixes)
    return RawFiles(files, signature, reader, name) if reader is not None and files else None
