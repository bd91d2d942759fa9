"""NumPy or torch arrays, from memory or from .npy and .npz files."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.field_inference import UNSTATED, infer_field, to_tensor
from reprkit.data.folders import find_others
from reprkit.data.formats.positional_file import RowFile
from reprkit.data.formats.table_arrays import read_table
from reprkit.data.formats.table_columns import number_column
from reprkit.data.formats.tensors import Tensors
from reprkit.data.padding import broadcast_mask
from reprkit.data.regular_files import check_regular
from reprkit.data.signature import Column, Kind, Signature
from reprkit.errors import DataError, nearest
from reprkit.registry.constraints import Count, Real

_ROWS = 10_000  # examples that are looked at for the scales of a vector's elements
_SCALES = 100  # ratio of standard deviations above which a warning says so
_NO_X = "the file has {}, none of them called 'x'\n  specify fields={{'x': ..., 'label': ...}}"


class Arrays(Tensors):
    """Arrays (n ...) with the examples along the first axis, one per field; the input is the field ``x``.

    What is not declared is inferred:

    ==========================  ===================================================================
    type and axes               field
    ==========================  ===================================================================
    float (n d)                 vector
    float (n t c)               sequence
    float or uint8 (n h w c)    image; uint8 is divided by 255, range (0, 1)
    integer (n t)               tokens, vocab = largest + 1; refused if uint8, or if over 1,024 and
                                less than half of the symbols occur: declare the kind
    integer (n,), or "label"    label, vocab = largest + 1
    bool                        real 0 and 1 of the same axes, vocab 2 (a Bernoulli likelihood)
    ==========================  ===================================================================

    Images (n h w) need ``kinds={"x": "image"}`` and get a channel axis; symbols on a grid (n h w)
    need "map".  Real images get the range (0, 1) or
    (-1, 1) if all values lie in it, other real data has no range.  All real data becomes float32.  A field
    ``NAME_mask`` (bool, n t) makes the length of NAME vary (padding becomes 0), and so does a list of arrays
    of different lengths.

    Args:
        path: a .npy file (its array is ``x``), a .npz file, a folder of .npy files (one per field), or the
            arrays themselves: field -> array, or one array for ``x``.
        kinds: field -> "image", "map", "vector", "sequence", "tokens" or "label".
        ranges: field -> (lowest, highest), or None for no range.
        vocabs: field -> number of symbols; 2 declares that a real field holds only 0 and 1.
        columns: field -> the columns of a table (n d), in order: a name (a number, whose mean and standard deviation are
            those of the array, after ``split`` and ``rk.data.fold`` of the training part) or an ``rk.Column``.  A category is the
            number of its class, or one-hot.  NaN is a missing value, as is False in ``NAME_mask`` (n d).
        group: name of an array (n,) of numbers or texts, such as "patient": examples of equal value stay in one part of
            ``split``, which follows from a hash of the value and the seed.  It is no field.
        fields: field -> its name in the file, where that differs; only these are read then.
        mmap: memory-map .npy files instead of reading them: only what a batch needs is read, and values are
            not checked in advance.  A worker process opens the files itself.

    Raises:
        DataError: no such file, pickled objects, no examples, or values that do not fit; see
            ``reprkit.data.checks``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Mapping[str, Any] | Any,
        *,
        kinds: Mapping[str, Kind] | None = None,
        ranges: Mapping[str, tuple[Real, Real] | None] | None = None,
        vocabs: Mapping[str, Count] | None = None,
        columns: Mapping[str, Sequence[str | Column]] | None = None,
        group: str | None = None,
        fields: Mapping[str, str] | None = None,
        mmap: bool = False,
    ) -> None:
        if isinstance(path, str | os.PathLike):
            file = Path(path).expanduser()
            raw, name = _read(file, mmap), file.stem
        else:
            raw, name = dict(path) if isinstance(path, Mapping) else {"x": path}, "arrays"
            if mmap:
                raise DataError("mmap=True is for .npy files, and these arrays are already in memory")
        self._groups = None if group is None else _take_groups(raw, group)
        raw = _rename_fields(raw, fields)
        converted = {field: to_tensor(field, value) for field, value in raw.items()}
        masks = {f"{field}_mask": mask for field, (_, mask) in converted.items() if mask is not None}
        tensors = {field: value for field, (value, _) in converted.items()} | masks
        names = [field for field in tensors if not _is_mask(field, tensors)]
        for option, values in (
            ("kinds", kinds),
            ("ranges", ranges),
            ("vocabs", vocabs),
            ("columns", columns),
        ):
            for field in values or {}:
                if field not in names:
                    raise DataError(
                        f"{option}: there is no field {field!r}.{nearest(field, names)}\n"
                        f"  the fields are: {', '.join(names)}"
                    )
        signature, divisors = {}, {}
        for field in names:
            mask = tensors.get(f"{field}_mask")
            if field in (columns or {}):
                if mmap or any(field in (each or {}) for each in (kinds, ranges, vocabs)):
                    raise DataError(
                        f"columns of field {field!r} are read from memory, as a vector without range: omit mmap, kinds, "
                        "ranges, vocabs"
                    )
                tensors[field], mask, signature[field] = read_table(
                    field, tensors[field], mask, (columns or {})[field]
                )
                tensors.pop(f"{field}_mask", None)
                tensors |= {} if mask is None else {f"{field}_mask": mask}
                continue
            if mask is not None and not mmap:
                tensors[field] = _blank_padding(tensors[field], mask)
            tensors[field], signature[field], divisor = infer_field(
                field,
                tensors[field],
                kind=(kinds or {}).get(field),
                span=(ranges or {}).get(field, UNSTATED),
                vocab=(vocabs or {}).get(field),
                varies=mask is not None,
                look=not mmap,
            )
            if divisor is not None:
                divisors[field] = divisor
            if signature[field].kind == "vector" and signature[field].range is None and not mmap:
                _warn_of_scales(field, tensors[field])
        super().__init__(tensors, Signature(signature), divisors=divisors, name=name, check=not mmap)
        if isinstance(path, str | os.PathLike) and file.is_dir():
            others = find_others(file, [each.name for each in file.glob("*.npy")])
            self.facts = {**self.facts, **others.facts()}
        if self._groups is not None and len(self._groups) != len(self):
            raise DataError(
                f"group={group!r} has {len(self._groups)} values, and there are {len(self)} examples"
            )
        self._named = {
            field: {column for column in each if isinstance(column, str)}
            for field, each in (columns or {}).items()
        }
        self._mapped = {field: str(raw[field].filename) for field in tensors} if mmap else {}
        self._rows = {
            field: rows
            for field in self._mapped
            if (rows := _rows_of(raw[field], self._values[field])) is not None
        }

    def identities(self) -> Sequence[str] | None:
        """Return the value of ``group`` of each example; None without it."""
        return self._groups

    def fit_statistics(self, rows: Int[Tensor, " m"]) -> Arrays:
        """Return the arrays with the mean and standard deviation of these examples (m,), of the columns given by name."""
        if not self._named:
            return self
        fields = dict(self.signature)
        for name, learned in self._named.items():
            mask, start, columns = self._values.get(f"{name}_mask"), 0, []
            for column in fields[name].columns:
                if column.name in learned:
                    values = self._values[name][rows, start]
                    known = values if mask is None else values[mask[rows, start]]
                    column = number_column(column.name, known.cpu().numpy())
                columns.append(column)
                start += column.width
            fields[name] = replace(fields[name], columns=tuple(columns))
        fitted = copy.copy(self)
        fitted.signature = Signature(fields)
        return fitted

    def lengths(self) -> Mapping[str, Int[Tensor, " n"]]:
        """Return the lengths of the fields that vary, up to the last valid step of their masks."""
        for rows in self._rows.values():
            rows.check_size()  # the masks are read from their mapping
        return super().lengths()

    def _select(self, key: str, value: Tensor, index: Tensor) -> Tensor:
        if key not in self._rows:
            return super()._select(key, value, index)
        return self._to_batch_dtype(key, self._rows[key].read(index.cpu()))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for another process, without the contents of mapped files."""
        values = {field: value for field, value in self._values.items() if field not in self._mapped}
        shapes = {field: self._values[field].shape for field in self._mapped}
        return {**self.__dict__, "_values": values, "_mapped": (self._mapped, shapes), "_rows": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state and map the files again.

        Raises:
            DataError: a file was removed, or has changed.
        """
        self.__dict__.update(state)
        self._mapped, shapes = state["_mapped"]
        for field, file in self._mapped.items():
            array = _load(Path(file), True)
            value, _ = to_tensor(field, array)
            if value.numel() != shapes[field].numel():
                raise DataError(
                    f"{file!r} has changed since the data set was constructed; construct it again"
                )
            self._values[field] = value.reshape(shapes[field])
            rows = _rows_of(array, self._values[field])
            if rows is not None:
                self._rows[field] = rows


def _take_groups(raw: dict[str, Any], group: str) -> list[str]:
    """Take the array that groups examples out of the others.

    Raises:
        DataError: there is none of this name, or it is not one value an example.
    """
    if group not in raw:
        raise DataError(
            f"there is no array {group!r} for group=.{nearest(group, raw)}\n  the arrays are: {', '.join(raw) or 'none'}"
        )
    values = raw.pop(group)
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.ndim != 1:
        raise DataError(f"group={group!r} is one value an example (n,), not of shape {array.shape}")
    return list(map(str, array.tolist()))


def _warn_of_scales(name: str, value: Tensor) -> None:
    """Warn of a vector whose elements have so different scales that losses and distances are those of the largest alone."""
    deviations = value[:_ROWS].double().std(0, correction=0)
    means = value[:_ROWS].double().mean(0).abs()
    used = deviations[deviations > 1e-6 * means]  # constant elements have no scale, only rounding errors
    if not len(used) or used.max() <= _SCALES * used.min():
        return
    warnings.warn(
        f"the elements of {name} have standard deviations from {float(used.min()):.3g} to {float(used.max()):.3g}, so the largest "
        f"decide losses and distances almost alone; to standardize them inside of the model: rk.dataset({{'{name}': ...}}, "
        f"columns={{'{name}': [...]}}) with a name for each, or a DataFrame",
        stacklevel=4,
    )


def _rows_of(array: Any, value: Tensor) -> RowFile | None:
    """Return what reads a field's rows from its file; None where the tensor is a copy in memory, of another type."""
    if value.data_ptr() != array.ctypes.data or value.element_size() != array.itemsize or not value.ndim:
        return None
    return RowFile(Path(array.filename), array.offset, value.shape[1:], value.dtype)


def _is_mask(name: str, tensors: Mapping[str, Tensor]) -> bool:
    return name.endswith("_mask") and name.removesuffix("_mask") in tensors


def _blank_padding(value: Tensor, mask: Tensor) -> Tensor:
    """Set padding to zero where the mask is False, whatever value (-1, -100, NaN) it has."""
    if mask.dtype != torch.bool or mask.shape != value.shape[:2]:
        return value  # check_mask raises a clear error later
    return value.masked_fill(~broadcast_mask(mask, value), 0)


def _rename_fields(raw: Mapping[str, Any], fields: Mapping[str, str] | None) -> dict[str, Any]:
    for field, stored in (fields or {}).items():
        if stored not in raw:
            raise DataError(
                f"fields: there is no array {stored!r} for field {field!r}.{nearest(stored, raw)}\n"
                f"  the arrays are: {', '.join(raw) or 'none'}"
            )
    if fields:
        return {field: raw[stored] for field, stored in fields.items()}
    if "x" not in raw and len(raw) == 1:
        return {"x": next(iter(raw.values()))}
    if "x" not in raw:
        raise DataError(_NO_X.format(", ".join(raw) or "no arrays"))
    return dict(raw)


def _read(file: Path, mmap: bool) -> dict[str, Any]:
    if not check_regular(file).exists():
        raise DataError(f"no file {str(file)!r} (looked in {Path.cwd()})")
    if file.is_dir():
        arrays = {path.stem: _load(check_regular(path), mmap) for path in sorted(file.glob("*.npy"))}
        if not arrays:
            raise DataError(f"the folder {str(file)!r} holds no .npy files")
        return arrays
    if file.suffix == ".npy":
        return {"x": _load(file, mmap)}
    if file.suffix != ".npz":
        raise DataError(
            f"{str(file)!r} is neither .npy nor .npz; save it with np.savez(path, x=..., label=...)"
        )
    if mmap:
        raise DataError("mmap=True works for .npy files (or a folder of them), not for .npz archives")
    with _load(file, False) as archive:
        return {name: _load_member(file, archive, name) for name in archive.files}


def _load(file: Path, mmap: bool) -> Any:
    try:
        # "c": copy on write, so that torch may write to the memory and the file never changes.
        array = np.load(file, mmap_mode="c" if mmap else None, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{str(file)!r} cannot be read: {_reason(error)}") from error
    if mmap and not (array.flags.c_contiguous and array.dtype.isnative):
        raise DataError(
            f"{str(file)!r} cannot be memory-mapped: its array is not C-contiguous, or its byte order is not "
            "this machine's\n  save it again with np.save(path, np.ascontiguousarray(x)), or use mmap=False"
        )
    return array


def _load_member(file: Path, archive: Any, name: str) -> Any:
    try:
        return archive[name]
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"array {name!r} of {str(file)!r} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if "pickle" in str(error):
        return "it holds Python objects (a pickle), which reprkit never loads; save numeric arrays"
    return str(error)
