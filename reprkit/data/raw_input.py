"""Turn what a user holds (arrays, DataFrames, pictures, file names) into a batch of a signature."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.collation import collate
from reprkit.data.regular_files import check_regular
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError


def as_batch(source: Any, signature: Signature | None) -> dict[str, Tensor]:
    """Return a batch that fits the signature.

    ==========================================  =====================================================================
    source                                      field ``x``
    ==========================================  =====================================================================
    a batch: field -> tensor or array           each field, converted to its type; or a list of what stands below, pictures or
                                                texts, of that field
    an array or tensor (b ...)                  ``x``; uint8 pixels are rescaled from 0..255 to the field's range
    a list of examples: dicts, arrays, numbers  collated; sequences of different lengths get ``x_mask``
    a DataFrame of pandas or polars, or one     the columns of a table, by name; gaps become False in ``x_mask``
    row, column -> value
    a .csv, .tsv or .parquet file               its columns, as those of a DataFrame
    a .npy file                                 its array
    a picture (PIL) or its file, or a list      read, cropped and resized to (h w c) as the data set ``images`` does
    a text, a sound or text file, or a list     what the data set that declares ``Field.form`` reads: a text, each line of a
                                                file, or each window of a sound, through the model's vocabulary or front end
    ==========================================  =====================================================================

    Raises:
        DataError: none of these, no signature, or content that does not fit the field.
    """
    if isinstance(source, Mapping) and not _is_row(source, signature):
        return {
            key: tensor
            for name, value in source.items()
            for key, tensor in _field_batch(name, value, signature).items()
        }
    if signature is None:
        raise DataError(
            f"the model has no signature: give a batch, field -> tensor, not {type(source).__name__}"
        )
    name = "x" if "x" in signature else next(iter(signature))
    field = signature[name]
    if isinstance(source, np.ndarray | Tensor):
        return {name: _convert(name, source, signature)}
    from reprkit.data.formats import table

    if isinstance(source, Mapping):
        import pandas as pd

        return _from_frame(pd.DataFrame([dict(source)]), name, field)
    if table.is_frame(source) or (field.columns and _is_file(source, table.SUFFIXES)):
        return _from_frame(table.read_frame(source)[1], name, field)
    if _is_file(source, (".npy",)):
        return {name: _convert(name, _load(source), signature)}
    items = list(source) if isinstance(source, list | tuple) else [source]
    if items and field.kind == "image" and all(map(_is_picture, items)):
        return {name: _from_pictures(items, field)}
    if items and all(isinstance(item, str | Path) for item in items):
        from reprkit.data.raw_files import form_reader, read_examples

        if (reader := form_reader(field)) is not None:
            examples = [{name: one} for value in read_examples(items, field, reader) for one in value]
            return collate(examples, Signature({name: field}))
    if isinstance(source, list | tuple) and items:
        return _from_examples(items, name, signature, source)
    raise _no_input(source, name, field)


def _field_batch(name: str, value: Any, signature: Signature | None) -> dict[str, Any]:
    """Return a field of a batch, with its mask where raw values are read whose lengths vary."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    raw = bool(items) and all(isinstance(item, str | Path) or _is_picture(item) for item in items)
    if not raw or signature is None or name not in signature:
        return {name: _convert(name, value, signature)}
    read = as_batch(items, Signature({"x": signature[name]}))
    return {name + key.removeprefix("x"): tensor for key, tensor in read.items()}


def _is_row(source: Mapping[Any, Any], signature: Signature | None) -> bool:
    """Whether a mapping is a row of the table that the model learned, rather than a batch."""
    field = None if signature is None or "x" not in signature else signature["x"]
    if field is None or not field.columns or set(source) & set(signature or ()):
        return False
    return {column.name for column in field.columns} <= set(source)


def _from_examples(items: list[Any], name: str, signature: Signature, source: Any) -> dict[str, Tensor]:
    """Return the batch of a list of examples: dicts of fields, or values of the field ``name`` alone."""
    field = signature[name]
    if all(isinstance(item, Mapping) for item in items):
        if all(_is_row(item, signature) for item in items):
            import pandas as pd

            return _from_frame(pd.DataFrame(items), name, field)
        if len({frozenset(item) for item in items}) > 1 or name not in items[0]:
            raise DataError(
                f"a list of examples holds dicts with the same fields, {name} among them, not {', '.join(map(str, items[0]))}"
            )
        examples = [{key: _to_example(value) for key, value in item.items()} for item in items]
    else:
        examples = [{name: _to_example(item)} for item in items]
    if not all(isinstance(value, Tensor) for example in examples for value in example.values()) or any(
        example[name].ndim != len(field.shape) for example in examples
    ):
        raise _no_input(source, name, field)
    shapes = {
        tuple(example[name].shape[1:] if None in field.shape else example[name].shape) for example in examples
    }
    if len(shapes) > 1:
        listed = ", ".join(map(str, sorted(shapes)))
        raise DataError(f"the examples of {name} ({field.kind} {field.axes}) have different shapes: {listed}")
    known = Signature({key: signature[key] for key in examples[0] if key in signature})
    converted = [
        {
            key: value[0]
            for key, value in as_batch({k: v[None] for k, v in example.items()}, signature).items()
        }
        for example in examples
    ]
    return collate(converted, known)


def _to_example(value: Any) -> Any:
    """Return one value as a tensor; unchanged where it is no number and no array."""
    if isinstance(value, Tensor):
        return value
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        return value
    return torch.from_numpy(np.ascontiguousarray(array)) if array.dtype.kind in "biuf" else value


def _load(source: str | Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(check_regular(Path(source)), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{str(source)!r} cannot be read as an array: {error}") from error
    return array


def _is_file(source: Any, suffixes: Collection[str]) -> bool:
    return (
        isinstance(source, str | Path) and Path(source).suffix.lower() in suffixes and os.path.isfile(source)
    )


def _no_input(source: Any, name: str, field: Field) -> DataError:
    return DataError(
        f"{_describe(source)} is no input of {name} ({field.kind} {field.axes})\n  {_advice(field)}"
    )


def _convert(name: str, value: Any, signature: Signature | None) -> Any:
    """Return a tensor of the field's type; what is no field of the signature, and what is no array, stays."""
    if isinstance(value, Tensor) and value.dtype != torch.uint8:
        return value
    if not isinstance(value, np.ndarray | Tensor):
        return value
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
    field = None if signature is None or name not in signature else signature[name]
    if field is None:
        return tensor
    if field.discrete:
        return tensor if tensor.is_floating_point() else tensor.long()
    if tensor.dtype == torch.uint8 and field.kind == "image":
        return _from_pixels(tensor, field)
    return (
        tensor.float()
        if tensor.dtype in (torch.float64, torch.bool) or not tensor.is_floating_point()
        else tensor
    )


def _from_pixels(pixels: Tensor, field: Field) -> Tensor:
    """Rescale uint8 pixels from 0..255 to the field's range; without a range they stay."""
    if field.range is None:
        return pixels.float()
    low, high = field.range
    return pixels.float() / 255 * (high - low) + low


def _from_frame(frame: Any, name: str, field: Field) -> dict[str, Tensor]:
    from reprkit.data.formats.frame_columns import encode_rows

    if not field.columns:
        raise DataError(
            f"the model did not learn a table: its {name} is {field.kind} ({field.axes}) without columns\n"
            "  give an array, or train on rk.dataset(DataFrame)"
        )
    x, known, unseen = encode_rows(frame, field.columns)
    if unseen:
        raise not_learned(unseen)
    return {name: x} if known.all() else {name: x, f"{name}_mask": known}


def not_learned(unseen: Mapping[str, int]) -> DataError:
    """Return the error for rows with classes that a model did not learn: column -> number of rows."""
    listed = ", ".join(f"{column!r} ({count} rows)" for column, count in unseen.items())
    return DataError(
        f"the table holds classes that the model did not learn, in {listed}\n  set them to None to treat them as missing values"
    )


def _from_pictures(items: Sequence[Any], field: Field) -> Tensor:
    height, width, _ = field.shape
    if height is None or width is None:
        raise DataError(f"pictures have a size, and the model reads images of {field.axes}")
    return torch.stack([read_picture(item, field, (height, width)) for item in items])


def read_picture(item: Any, field: Field, size: tuple[int, int] | None = None) -> Tensor:
    """Return a picture (PIL) or its file in the field's channels and range (h w c), as the data set ``images`` reads it.

    Args:
        item: the picture, or the path of its file.
        field: an image field.
        size: (h, w), to which it is cropped and resized; None for its own.

    Raises:
        DataError: an image field without 1 or 3 channels, or a picture that cannot be read so.
        OSError: the file cannot be read; Pillow raises other exceptions too.
    """
    from reprkit.data.formats.image_files import Fit, read_image
    from reprkit.registry.references import parse

    channels = field.shape[-1]
    if channels not in (1, 3):
        raise DataError(f"pictures have 1 or 3 channels, and the model reads images of {field.axes}")
    form = field.form or "image"
    settings = parse(form).arguments if form.startswith("image") else {}
    fit: Fit = settings.get("fit", "crop")
    levels = settings.get("range")
    pixels = np.array(
        read_image(item, size, fit=fit, gray=channels == 1, range=levels)
    )  # Pillow's are read-only
    if levels is not None:  # uint16, which torch hardly computes with
        return torch.from_numpy(pixels.astype(np.float32) / 65535)
    return _from_pixels(torch.from_numpy(pixels), field)


def _is_picture(item: Any) -> bool:
    from PIL import Image

    return os.path.isfile(item) if isinstance(item, str | Path) else isinstance(item, Image.Image)


def _describe(source: Any) -> str:
    from reprkit.data.base import Dataset

    if isinstance(source, Dataset):
        return f"a whole data set ({source.name}; use rk.embed, or data.batch(indices))"
    if isinstance(source, str | Path):
        return (
            f"{str(source)[:80]!r} ({'a file' if os.path.isfile(source) else 'no file of this name exists'})"
        )
    inner = f" of {type(source[0]).__name__}" if isinstance(source, list | tuple) and source else ""
    return f"a {type(source).__name__}{inner}"


def _advice(field: Field) -> str:
    if field.kind == "image":
        return "give an array (b h w c), a picture of PIL, a file name, or a list of these"
    if field.columns:
        return "give a DataFrame with the model's columns, or an array (b d) in their order"
    if field.kind == "tokens":
        return "texts become symbols by their data set: give rk.dataset(...).batch(indices)"
    if field.form is not None:
        form = field.form.partition("(")[0]
        return f"no installed plugin reads files of the form {form}: give an array, or rk.dataset(...).batch(indices)"
    return "give an array, or a batch of a data set: rk.dataset(...).batch(indices)"
