"""Check data against its signature; errors name the field, the value, its index and what to do."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Container, Mapping
from typing import Literal

import torch
from torch import Tensor

from reprkit.data.padding import broadcast_mask
from reprkit.data.signature import LAYOUTS, Column, Field, Signature
from reprkit.errors import DataError

_SLACK = 1e-4  # tolerance as a share of the range's width, for rounding when data was rescaled
_SCALE = 8.0  # widths by which corrupted values may leave a range; 0..255 for 0..1 leaves it by 254
_CHUNK = 1 << 24  # elements checked at a time, to bound memory
_REAL = (torch.float32, torch.float16, torch.bfloat16)
_MODEL = "the model and the losses are float32"


def check_batch(
    batch: Mapping[str, Tensor],
    signature: Signature,
    *,
    dtype: torch.dtype = torch.float32,
    values: bool | Literal["scale"] = True,
    fields: Container[str] | None = None,
) -> None:
    """Check a batch against the signature.

    A model so checks its first training batch, and every batch of ``encode``.

    Fields of the signature may be absent (labels often are); fields that the signature lacks are ignored.

    Args:
        batch: field -> (b ...), and ``NAME_mask`` Bool (b t) where lengths vary.
        signature: the expected fields.
        dtype: of the model; real fields may have this type, float32, float16 or bfloat16.
        values: also check the values (finite, range, vocabulary).  "scale" is for a batch that may be corrupted or decoded, whose
            values may leave the range by up to 8 times its width and which may hold the mask symbol; False checks no value.
        fields: names of the fields whose values are checked; None: all.

    Raises:
        DataError: an empty batch, or a field of the wrong shape, type or range, or with non-finite values.
    """
    present = [name for name in signature if name in batch]
    if not present:
        raise DataError(
            f"the batch has none of the signature's fields\n  the batch has {', '.join(batch) or 'none'}; "
            f"the signature has {', '.join(signature)}"
        )
    for name in present:
        field, value = signature[name], batch[name]
        check_layout(name, field, value, dtype=dtype)
        if len(value) != len(batch[present[0]]):
            raise DataError(
                f"field {name!r} has {len(value)} examples and field {present[0]!r} has {len(batch[present[0]])}"
            )
        mask = batch.get(f"{name}_mask")
        if mask is not None:
            check_mask(name, value, mask)
        if fields is None or name in fields:
            check_batch_values(name, field, value, mask, values)


def check_batch_values(
    name: str, field: Field, value: Tensor, mask: Tensor | None, values: bool | Literal["scale"]
) -> None:
    """Check the values of one field of a batch, as ``check_batch`` does.

    Raises:
        DataError: an invalid value.
    """
    if values == "scale":
        _check_scale(name, field, value.detach())
    elif values:
        check_values(name, field, value.detach(), mask=mask, whole="the batch")


def check_layout(name: str, field: Field, value: Tensor, *, dtype: torch.dtype = torch.float32) -> None:
    """Check type and shape of one field's tensor (n ...), but not its values.

    Raises:
        DataError: not a tensor, no examples, or a shape or type that differs from the field's.
    """
    if not isinstance(value, Tensor):
        raise DataError(f"field {name!r} is a {type(value).__name__}, not a tensor: use torch.as_tensor")
    shape = tuple(value.shape)
    if value.ndim == 0 or shape[0] == 0:
        raise DataError(f"field {name!r} is empty: its shape is {shape}; give at least one example")
    expected = field.shape
    if len(shape) != 1 + len(expected) or any(
        size is not None and size != actual for size, actual in zip(expected, shape[1:], strict=True)
    ):
        layout = " ".join(("b", *LAYOUTS[field.kind]))
        raise DataError(
            f"field {name!r} has shape {shape}; the signature says {field.kind} ({layout})"
            f"{' with ' + field.axes if field.axes else ''}{_shape_advice(field, shape)}"
        )
    if field.discrete:
        if value.dtype != torch.int64:
            raise DataError(
                f"field {name!r} ({field.kind}) is {dtype_name(value)}; symbols are int64: use .long()"
            )
    elif value.dtype not in (*_REAL, dtype):
        raise DataError(f"field {name!r} ({field.kind}) is {dtype_name(value)}, and {_MODEL}: use .float()")


def check_mask(name: str, value: Tensor, mask: Tensor) -> None:
    """Check ``NAME_mask``: Bool (b t), with at least one valid step in every example.

    Raises:
        DataError: another type or shape, or an example without valid steps.
    """
    own = f"{name}_mask"
    if mask.dtype != torch.bool:
        raise DataError(f"field {own!r} is {dtype_name(mask)}; masks are bool, True where valid: use .bool()")
    if mask.shape != value.shape[:2]:
        raise DataError(
            f"field {own!r} has shape {tuple(mask.shape)}; with {name!r} of shape {tuple(value.shape)} "
            f"it must have {tuple(value.shape[:2])}"
        )
    blank = (~mask.any(1)).nonzero()
    if len(blank):
        raise DataError(
            f"example {int(blank[0])} of field {name!r} has no valid step in {own!r}: leave it out"
        )


def check_values(
    name: str,
    field: Field,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    whole: str = "the data",
    start: int = 0,
) -> None:
    """Check that values are finite, in range and in the vocabulary; padding of real fields (``mask`` False) must only be finite.

    Args:
        name: name of the field.
        field: its kind, range and vocabulary.
        value: (n ...), as the model gets it.
        mask: Bool (n t), True where valid.
        whole: what ``value`` is part of, for the message.
        start: index of its first example in the whole, for the message.

    Raises:
        DataError: an invalid value; names the field, the first such value and its index.
    """
    if field.columns:
        _check_categories(name, field, value, mask, whole, start)
    rows = max(1, _CHUNK // max(1, value[0].numel()))
    for first in range(0, len(value), rows):
        part = value[first : first + rows]
        cover = None if mask is None else mask[first : first + rows]
        _check_part(name, field, part, cover, whole, start + first)


def _check_scale(name: str, field: Field, value: Tensor) -> None:
    """Check that values are of the field's scale, such as 0 to 1 and not 0 to 255, and symbols of its vocabulary."""
    lowest, highest = _limits(field)
    if field.kind == "label" or not highest < float("inf"):
        return
    slack = 0.0 if field.discrete else _SCALE * (highest - lowest)
    highest += 1 if field.discrete else slack  # the symbol after the vocabulary is the mask symbol
    low, high = (float(bound) for bound in torch.aminmax(value))
    if lowest - slack <= low and high <= highest:
        return
    bad = (value < lowest - slack) | (value > highest)
    if not bad.any():
        return  # NaN, which an evaluator may count
    allowed = f"vocab {field.vocab}" if field.discrete else f"range {field.range}"
    raise DataError(
        f"field {name!r} holds {_first(value, bad, 'the batch', 0)}; the model learned values of another scale, {allowed}\n"
        f"  {range_advice(field, low, high)}"
    )


def _check_categories(
    name: str, field: Field, value: Tensor, mask: Tensor | None, whole: str, start: int
) -> None:
    """Check that each category of a table is a one-hot vector, present or missing as a whole."""
    # All columns at once, since ``encode`` checks every batch.
    found = _category_elements(field.columns, value.device)
    if found is None:
        return
    places, owner = found
    part = value.index_select(1, places).float()
    wrong = part @ owner != 1
    if not torch.equal(part.square(), part):
        wrong |= (part.square() != part).float() @ owner > 0
    if mask is not None:
        present, widths = mask.to(value.device).index_select(1, places).float() @ owner, owner.sum(0)
        wrong = (wrong & (present == widths)) | ((present > 0) & (present < widths))
    if wrong.any():
        number = int(wrong.any(0).nonzero()[0])
        row = int(wrong[:, number].nonzero()[0])
        categories = [each for each in field.column_slices if each[0].kind == "category"]
        column, elements = categories[number]
        raise DataError(
            f"field {name!r}, column {column.name!r}: example {start + row} of {whole} holds {value[row, elements].tolist()}; "
            f"a category is 1 at one of its classes and 0 at the others, or it is missing as a whole ({name}_mask)"
        )


@functools.lru_cache(maxsize=64)
def _category_elements(columns: tuple[Column, ...], device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Return the elements of all categories (e,), and 1 where one belongs to a category (e k); None where there are none."""
    starts = itertools.accumulate((column.width for column in columns), initial=0)
    parts = [
        torch.arange(start, start + column.width, device=device)
        for start, column in zip(starts, columns, strict=False)
        if column.kind == "category"
    ]
    if not parts:
        return None
    return torch.cat(parts), torch.block_diag(*(torch.ones(len(part), 1, device=device) for part in parts))


def _check_part(name: str, field: Field, value: Tensor, mask: Tensor | None, whole: str, start: int) -> None:
    low, high = (float(bound) for bound in torch.aminmax(value))  # NaN if any value is
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        bad = ~value.isfinite()
        raise DataError(
            f"field {name!r} holds {_first(value, bad, whole, start)}\n"
            "  leave the example out, or replace the value (np.nan_to_num) before the data set is constructed"
        )
    lowest, highest = _limits(field)
    if field.vocab == 2 and not field.discrete:
        if torch.equal(value.square(), value):
            return
        bad = (value != 0) & (value != 1)
    elif lowest <= low and high <= highest:
        return
    else:
        bad = (value < lowest) | (value > highest)
    if mask is not None and not field.discrete:
        bad &= broadcast_mask(mask, value)
    if bad.any():
        allowed = (
            f"0 to {field.vocab - 1} (vocab {field.vocab})"
            if field.discrete and field.vocab
            else "only 0 and 1 (vocab 2)"
            if field.vocab == 2
            else f"range {field.range}"
        )
        raise DataError(
            f"field {name!r} holds {_first(value, bad, whole, start)}; its signature says {allowed}\n"
            f"  {range_advice(field, low, high)}"
        )


def _limits(field: Field) -> tuple[float, float]:
    if field.discrete:
        return 0.0, float("inf") if field.vocab is None else field.vocab - 1
    if field.range is None:
        return float("-inf"), float("inf")
    low, high = field.range
    return low - _SLACK * (high - low), high + _SLACK * (high - low)


def range_advice(field: Field, low: float, high: float) -> str:
    """Return advice for values from ``low`` to ``high`` that do not fit the field."""
    span = f"the values span {low:g} to {high:g}: "
    if field.kind == "tokens" and low < 0:
        return (
            f"{span}symbols start at 0; padding must be a valid symbol too, such as 0, since it is embedded"
        )
    if field.kind == "tokens":
        return f"{span}correct vocab, or map the other symbols to one for unknown"
    if field.kind == "label":
        return f"{span}number the classes from 0 (np.unique(labels, return_inverse=True)[1])"
    if low >= 0 and 1 < high <= 255 and (field.range == (0, 1) or field.vocab == 2):
        if high > 16:
            binary = " and round" if field.vocab == 2 else ""
            return f"{span}they look like 0..255; divide by 255{binary}"
        return f"{span}divide by the largest possible value"
    if low >= 0 and 1 < high <= 255 and field.range == (-1, 1):
        return f"{span}they look like 0..255; divide by 127.5 and subtract 1"
    return f"{span}rescale the data, or declare its range (arrays: ranges={{...}}; None for no range)"


def _shape_advice(field: Field, shape: tuple[int, ...]) -> str:
    expected = field.shape
    if shape == expected:
        return "\n  this is a single example without the batch axis: use x[None]"
    if field.kind == "image":
        if len(shape) == 4 and shape[2:] == expected[:2] and shape[1] == expected[2]:
            return "\n  channels come last: use x.permute(0, 2, 3, 1)"
        if len(shape) == 3 and shape[1:] == expected[:2] and expected[2] == 1:
            return "\n  add the channel axis: use x.unsqueeze(-1)"
        if len(shape) == 4 and shape[3] in (1, 3) and expected[2] in (1, 3):
            gray = f", gray={expected[2] == 1}" if shape[3] != expected[2] else ""
            return f"\n  for image files use images(root=..., size=({expected[0]}, {expected[1]}){gray})"
    if (
        field.kind == "sequence"
        and len(shape) == 3
        and shape[1] == expected[1]
        and expected[0] in (None, shape[2])
    ):
        return "\n  channels come last: use x.transpose(1, 2)"
    return ""


def _first(value: Tensor, bad: Tensor, whole: str, start: int) -> str:
    index = bad.nonzero()[0].tolist()
    first = value[tuple(index)].item()
    index[0] += start
    more = int(bad.sum()) - 1
    others = f", and {more} more like it" if more else ""
    return f"{first:g} at {index} of {whole} (example {index[0]}){others}"


def dtype_name(value: Tensor) -> str:
    """Return the name of a tensor's type, such as "int64"."""
    return str(value.dtype).removeprefix("torch.")
