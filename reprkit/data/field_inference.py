"""Infer the field of a raw array: its kind, range and vocabulary, and how to store it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprkit.data.checks import dtype_name
from reprkit.data.padding import pad
from reprkit.data.signature import LAYOUTS, Field, Kind
from reprkit.errors import DataError

UNSTATED: Any = object()  # as opposed to None, which declares that there is no range
_PLAIN_VOCAB = 1024  # an integer matrix without larger values is read as symbols
_SAMPLE = 1000  # examples that decide whether real values are integers


def to_tensor(name: str, raw: Any) -> tuple[Tensor, Tensor | None]:
    """Convert an array to a tensor (n ...), sharing memory where possible, and a mask where lengths vary.

    A list of arrays of different lengths is padded with zeros at the end; the mask is Bool (n t).

    Raises:
        DataError: text, objects, complex numbers, or ragged lists that differ in more than the first dimension.
    """
    if isinstance(raw, Tensor):
        value = raw.detach()
        if value.is_complex() or value.layout != torch.strided:
            raise DataError(f"field {name!r} is {value.dtype} ({value.layout}); it must be dense and real")
        return value, None
    if isinstance(raw, list | tuple) and len({np.shape(value)[:1] for value in raw}) > 1:
        return _ragged(name, raw)
    array = raw if isinstance(raw, np.ndarray) else np.asarray(raw)
    if array.dtype.kind not in "biuf":
        advice = {
            "U": "number the values: np.unique(values, return_inverse=True)[1]",
            "S": "number the values: np.unique(values, return_inverse=True)[1]",
            "c": "split the values into magnitude and phase, or real and imaginary channels",
        }.get(array.dtype.kind, "give plain numbers")
        raise DataError(f"field {name!r} holds {array.dtype} values, not numbers\n  {advice}")
    if array.dtype == np.longdouble:
        array = array.astype(np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch cannot share such memory
    return torch.from_numpy(array), None


def _ragged(name: str, raw: Sequence[Any]) -> tuple[Tensor, Tensor]:
    values = [to_tensor(f"{name}[{index}]", value)[0] for index, value in enumerate(raw)]
    if values[0].ndim > 2:
        raise DataError(
            f"field {name!r} has shape {tuple(values[0].shape)} in example 0 and other lengths in others\n"
            "  only sequences (t c) and symbols (t,) may vary in length"
        )
    return pad(values, name)


def infer_field(
    name: str,
    value: Tensor,
    *,
    kind: Kind | None = None,
    span: Any = UNSTATED,
    vocab: int | None = None,
    varies: bool = False,
    look: bool = True,
) -> tuple[Tensor, Field, float | None]:
    """Infer the field of an array: the tensor to store, the field, and the divisor of its batches (None: no division).

    Args:
        name: name of the field.
        value: (n ...).
        kind: the declared kind; None infers it from type and axes (see ``Arrays``).
        span: the declared range; None for no range.
        vocab: the declared vocabulary.
        varies: whether it has a mask, so that t varies.
        look: whether its values may be read; otherwise whatever depends on them must be declared.

    Raises:
        DataError: no kind fits, or something must be declared; the message says what.
    """
    if value.ndim == 0 or len(value) == 0:
        raise DataError(
            f"field {name!r} is empty: its shape is {tuple(value.shape)}; give at least one example"
        )
    if kind is None:
        kind = _kind(name, value)
        if kind == "tokens" and vocab is None and look:
            _require_symbols(name, value)
    value = _with_axes(name, value, kind)
    if kind in ("tokens", "map", "label"):
        stored, vocab = _symbols(name, value, kind, vocab, look)
        shape: tuple[int | None, ...] = tuple(stored.shape[1:])
        return stored, Field(kind=kind, shape=(None,) if varies else shape, vocab=vocab), None
    divisor = 255.0 if value.dtype == torch.uint8 else None
    if value.dtype == torch.bool:
        vocab, span = 2, (0.0, 1.0)
    elif divisor:
        span = (0.0, 1.0) if span is UNSTATED else span
    stored = value if value.dtype in (torch.uint8, torch.bool, torch.float32) or not look else value.float()
    if vocab == 2 and span is UNSTATED:
        span = (0.0, 1.0)
    if span is UNSTATED:
        span = _span(name, stored) if kind == "image" and look else None
    shape = (None, *stored.shape[2:]) if varies else tuple(stored.shape[1:])
    span = None if span is None else (float(span[0]), float(span[1]))
    return stored, Field(kind=kind, shape=shape, range=span, vocab=vocab), divisor


def _kind(name: str, value: Tensor) -> Kind:
    integer = not value.is_floating_point() and value.dtype != torch.bool
    if name == "label" or value.ndim == 1:
        if not integer and value.dtype != torch.bool:
            raise DataError(
                f"field {name!r} is {dtype_name(value)} of shape {tuple(value.shape)}\n"
                "  a label must be integers (.astype('int64')), a vector must be (n d) (.reshape(-1, 1))"
            )
        return "label"
    if value.ndim == 2:
        return "tokens" if integer else "vector"
    if value.ndim == 3 and not integer:
        return "sequence"
    if value.ndim == 4 and (not integer or value.dtype == torch.uint8):
        return "image"
    if value.ndim == 3 and value.dtype == torch.uint8:
        raise DataError(
            f"field {name!r} is uint8 of shape {tuple(value.shape)}, without a channel axis\n"
            f"  if these are gray images (n h w), declare it: kinds={{{name!r}: 'image'}}"
        )
    raise DataError(
        f"field {name!r} is {dtype_name(value)} of shape {tuple(value.shape)}, which is ambiguous\n"
        f"  declare kinds={{{name!r}: ...}}, one of {', '.join(LAYOUTS)}"
    )


def _require_symbols(name: str, value: Tensor) -> None:
    """Refuse an undeclared integer matrix that may as well hold numbers: bytes, or few of many possible symbols."""
    pixels = value.dtype == torch.uint8
    whole = value.long()  # torch has few operations on unsigned types
    low, high = int(whole.min()), int(whole.max())
    found = len(torch.unique(whole)) if high >= _PLAIN_VOCAB else None
    if low < 0 or not (pixels or (found is not None and found <= high // 2)):
        return  # negative symbols are refused with the index of the first
    shown = f"{dtype_name(value)} from {low} to {high}" + (f", {found} different ones" if found else "")
    numbers = ".astype('float32'), with pixels / 255" if pixels else ".astype('float32')"
    raise DataError(
        f"field {name!r} of shape {tuple(value.shape)} holds {shown}: symbols or numbers?\n"
        f"  symbols: kinds={{{name!r}: 'tokens'}}; numbers: a vector, {numbers}; a table with names: rk.dataset(DataFrame)"
    )


def _with_axes(name: str, value: Tensor, kind: Kind) -> Tensor:
    """Return the value with the axes of its kind, channels last."""
    axes = ("n", *LAYOUTS[kind])
    if kind == "image" and value.ndim == 3:
        value = value.unsqueeze(-1)
    if kind == "label" and value.ndim == 2 and value.shape[1] == 1:
        value = value.squeeze(1)
    if value.ndim != len(axes):
        raise DataError(
            f"field {name!r} has shape {tuple(value.shape)}, and {kind} data has the axes ({' '.join(axes)})"
            + ("\n  reshape it to (n, 1)" if kind == "vector" and value.ndim == 1 else "")
        )
    if kind == "image" and value.shape[1] in (1, 3, 4) and min(value.shape[2:]) > 4:
        raise DataError(
            f"field {name!r} has shape {tuple(value.shape)}: that looks like channels first (n c h w), but "
            "images are (n h w c)\n  use x.transpose(0, 2, 3, 1) (NumPy), x.permute(0, 2, 3, 1) (torch), or for a torch data set "
            "rk.dataset(data, channels='first')"
        )
    return value


def _symbols(name: str, value: Tensor, kind: Kind, vocab: int | None, look: bool) -> tuple[Tensor, int]:
    if value.is_floating_point():
        raise DataError(
            f"field {name!r} ({kind}) is {dtype_name(value)}; symbols are integers: .astype('int64')"
        )
    if value.dtype in (torch.uint16, torch.uint32, torch.uint64) and look:
        value = value.long()  # torch supports few operations on these types
    if vocab is None and not look:
        raise DataError(f"field {name!r} is memory-mapped and not read now: declare vocabs={{{name!r}: ...}}")
    return value, int(value.max()) + 1 if vocab is None else vocab


def _span(name: str, value: Tensor) -> tuple[float, float] | None:
    """Infer the range of real images, where their values are clear."""
    low, high = (float(bound) for bound in torch.aminmax(value))
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= -1 and high <= 1:
        return -1.0, 1.0
    sample = value[:_SAMPLE].float()
    if low >= 0 and 1 < high <= 255 and bool((sample == sample.round()).all()):
        raise DataError(
            f"field {name!r} (image) holds integers from {low:g} to {high:g}, like pixels of 0..255\n"
            f"  divide by 255 (or by the largest possible value), or declare ranges={{{name!r}: None}}"
        )
    return None
