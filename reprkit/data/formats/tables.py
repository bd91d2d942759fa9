"""Tables of Hugging Face ``datasets``: open them from a folder, a file or the hub, and read them row by row."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reprkit.data.formats.arrow_rows import rows_of
from reprkit.data.regular_files import check_regular
from reprkit.errors import DataError, nearest

_MODULES = {
    ".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json", ".arrow": "arrow",
}  # fmt: skip
_SHARD_ROWS, _MOST_SHARDS = 256, 1024  # rows and number of the shards of a map-style table
_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def open_tables(
    path: str | os.PathLike[str] | Any, name: str | None = None, *, streaming: bool = False
) -> dict[str, Any]:
    """Open a folder, a file, a name on the hub or an object of ``datasets``: part -> table.

    With ``streaming`` a table is a ``datasets.IterableDataset``.

    Raises:
        DataError: nothing of that name, an unknown format, no network, or unreadable data.
    """
    import datasets

    if is_table(path):
        source: Any = path
        parts = dict(source) if isinstance(source, Mapping) else {str(source.split or "train"): source}
        if streaming or not any(isinstance(part, datasets.IterableDataset) for part in parts.values()):
            return {
                key: _streamed(part) if streaming and isinstance(part, datasets.Dataset) else part
                for key, part in parts.items()
            }
        raise DataError(
            "a datasets.IterableDataset has no length: it is read during training, by the data set hub-stream (rk.dataset(data))"
        )
    short_name(path)  # refuses what is no path
    local = check_regular(Path(path).expanduser())
    options: dict[str, Any] = {"streaming": streaming}
    try:
        if local.is_dir() and any((local / name).exists() for name in ("state.json", "dataset_dict.json")):
            saved = datasets.load_from_disk(str(local))
            parts = saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
            return {key: _streamed(part) if streaming else part for key, part in parts.items()}
        if local.is_file():
            module = _MODULES.get(local.suffix.lower())
            if module is None:
                raise DataError(f"{str(local)!r} has an unknown format\n  known: {', '.join(_MODULES)}")
            if local.suffix.lower() == ".tsv":
                options["delimiter"] = "\t"
            return dict(datasets.load_dataset(module, name, data_files=str(local), **options))
        if local.is_dir():
            return dict(datasets.load_dataset(str(local), name, **options))
        if not isinstance(path, str) or not _ID.fullmatch(path) or local.suffix.lower() in _MODULES:
            raise DataError(
                f"no file or folder {str(local)!r} (looked in {Path.cwd()}), and it is not a valid name on the hub"
            )
        return dict(datasets.load_dataset(path, name, **options))
    except DataError:
        raise
    except ConnectionError as error:
        raise DataError(
            f"there is no folder {path} here, and the hub cannot be reached to look for a data set of that name: {error}\n"
            "  with a network, check that HF_HUB_OFFLINE and HF_DATASETS_OFFLINE are not set; without one, give a folder or file"
        ) from error
    except Exception as error:
        reason = str(error.__cause__ or error).strip().splitlines()
        what = f"{path!s} (configuration {name!r})" if name else str(path)
        raise DataError(
            f"{what} cannot be read by datasets: {type(error).__name__}: {reason[0][:300] if reason else ''}"
        ) from error


def _streamed(table: Any) -> Any:
    """Return a map-style table as a stream of many shards."""
    return table.to_iterable_dataset(num_shards=min(max(1, len(table) // _SHARD_ROWS), _MOST_SHARDS))


def is_table(source: Any) -> bool:
    """Whether the source is a Dataset, IterableDataset or a dict of parts of the library ``datasets``; does not import it."""
    names = ("Dataset", "DatasetDict", "IterableDataset", "IterableDatasetDict")
    return any(
        each.__module__.partition(".")[0] == "datasets" and each.__name__ in names
        for each in type(source).__mro__
    )


def is_stream(source: Any) -> bool:
    """Whether it is an IterableDataset of ``datasets``, or a dict of them."""
    return is_table(source) and type(source).__name__.startswith("Iterable")


def choose_part(parts: Mapping[str, Any], part: str | None, where: str) -> str:
    """Return the name of the part to read: ``part``, else "train", else the only one.

    Raises:
        DataError: there is none of that name, or several and none called "train".
    """
    name = part or ("train" if "train" in parts or len(parts) != 1 else next(iter(parts)))
    if name not in parts:
        raise DataError(
            f"{where} has no part {name!r}.{nearest(name, parts)}\n  its parts: {', '.join(parts)}"
        )
    return name


def short_name(path: str | os.PathLike[str] | Any) -> str:
    """Return a short name: the name on the hub, or the file's without its suffix."""
    if is_table(path):
        first: Any = next(iter(path.values())) if isinstance(path, Mapping) else path
        return str(first.info.dataset_name or "datasets")
    if not isinstance(path, str | os.PathLike):
        raise DataError(
            f"a data set of the hub is a folder, a file, a name or an object of datasets, not {type(path).__name__}"
        )
    local = Path(path).expanduser()
    return local.resolve().stem if local.exists() else str(path)


def without_decoding(table: Any) -> Any:
    """Return the table with images and audio as encoded files, because reprkit decodes them itself."""
    for name, feature in _undecoded(table.features).items():
        table = table.cast_column(name, feature)
    return table.with_format(None)


def iter_rows(table: Any) -> Iterable[dict[str, Any]]:
    """Yield the rows of a map-style table in order, read in chunks; lists of numbers as arrays, see ``rows_of``."""
    for piece in table.with_format("arrow").iter(batch_size=256):
        yield from rows_of(piece)


def _undecoded(features: Mapping[str, Any]) -> dict[str, Any]:
    """Return the features to cast image and audio columns to, so that they stay encoded: column -> feature."""
    import datasets

    return {
        name: datasets.Image(decode=False)
        if isinstance(feature, datasets.Image)
        else datasets.Audio(decode=False)
        for name, feature in features.items()
        if isinstance(feature, datasets.Image | datasets.Audio)
    }
