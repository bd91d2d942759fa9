"""Write any data set as shards: tar files of arrays and labels, and the signature beside them."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.formats.shard_paths import SIGNATURE
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError
from reprkit.utils.atomic_files import replace_file, write_bytes
from reprkit.utils.untrusted_json import parse_json


def write_shards(data: Dataset, folder: str | os.PathLike[str], *, records: int = 1000) -> list[Path]:
    """Write the examples of a data set, in order, as ``shard-000000.tar`` and so on; return the files.

    A field is a .npy file (images of 256 levels as uint8), a label a .cls file with its number; the signature, with ranges,
    vocabularies and names of classes, is ``reprkit-signature.json``.  The data set ``shards`` reads them, and so does any reader of
    WebDataset's layout.  Each file appears when it is whole.

    Args:
        data: a data set or a stream.
        folder: a new folder, or one without tar files and without a signature.
        records: number of records of a file, from 1; a file of 100 MB to 1 GB is usual.

    Raises:
        DataError: ``records`` below 1, or a folder that holds tar files or the signature of others.
    """
    if records < 1:
        raise DataError(f"records is a number from 1, not {records}")
    target = Path(folder).expanduser()
    if target.exists() and (
        not target.is_dir() or any(target.glob("*.tar")) or (target / SIGNATURE).exists()
    ):
        raise DataError(
            f"{str(target)!r} is a file, or holds tar files or {SIGNATURE}: choose a new folder for the shards"
        )
    target.mkdir(parents=True, exist_ok=True)
    written, examples, count = list[Path](), iter(data), 0
    while part := list(islice(examples, records)):
        path = target / f"shard-{len(written):06d}.tar"
        with replace_file(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
            for number, example in enumerate(part, count):
                for suffix, content in _files(example, data.signature):
                    member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        written.append(path)
        count += len(part)
    write_bytes(target / SIGNATURE, json.dumps(data.signature.to_json(), indent=1).encode())
    return written


def _files(example: Mapping[str, Tensor], signature: Signature) -> Iterator[tuple[str, bytes]]:
    """Yield (suffix, content) of an example's files."""
    for name, field in signature.items():
        value = torch.as_tensor(example[name])
        if field.kind == "label":
            yield file_suffix(name, field), str(int(value)).encode()
            continue
        yield file_suffix(name, field), _array(_as_bytes(value, field))
        if f"{name}_mask" in example:
            yield f"{name}_mask.npy", _array(example[f"{name}_mask"])


def _as_bytes(value: Tensor, field: Field) -> Tensor:
    """Return an image in [0, 1] as uint8 if it is read as the same values."""
    if field.kind != "image" or field.range != (0.0, 1.0):
        return value
    levels = (value * 255).round().to(torch.uint8)
    return levels if torch.equal(levels.float() / 255, value) else value


def _array(value: Tensor) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(value.numpy()), allow_pickle=False)
    return buffer.getvalue()


def stored_signature(paths: Sequence[Path]) -> Signature | None:
    """Return the signature beside the first shard; None if there is none."""
    file = paths[0].parent / SIGNATURE
    if not file.is_file():
        return None
    try:
        return Signature.from_json(parse_json(file.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DataError) as error:
        raise DataError(
            f"{str(file)!r} describes no fields: {type(error).__name__}: {error}\n"
            "  remove it, or write the shards again with reprkit.data.write_shards"
        ) from error


def stored_columns(stored: Mapping[str, Field] | None) -> dict[str, str] | None:
    """Return where ``write_shards`` puts the fields."""
    return None if stored is None else {name: file_suffix(name, field) for name, field in stored.items()}


def file_suffix(name: str, field: Field) -> str:
    """Return the suffix of a field's file in shards that reprkit writes."""
    if field.kind == "label":
        return "cls" if name == "label" else f"{name}.cls"
    return f"{name}.npy"
