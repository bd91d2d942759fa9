"""What a model gives to its user: vectors, codes and data as NumPy, torch or pandas, in the data's own units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from reprkit.errors import BuildError, DataError, PartArgumentError, nearest
from reprkit.models.grid import from_tokens
from reprkit.models.isolation import isolate
from reprkit.types import Code, Codes

if TYPE_CHECKING:
    from reprkit.data.signature import Field
    from reprkit.models.model import Model
    from reprkit.types import Decoded

Form = Literal["numpy", "torch", "pandas"]
FORMS: tuple[str, ...] = ("numpy", "torch", "pandas")


def require_form(to: str, caller: str) -> None:
    """Check the name of a form.

    Raises:
        PartArgumentError: an unknown one.
    """
    if to not in FORMS:
        raise PartArgumentError(
            f"{caller}: no to={to!r}.{nearest(str(to), FORMS)}\n  known: {', '.join(FORMS)}"
        )


def vectors_to(vectors: Tensor, to: Form, caller: str = "represent") -> Any:
    """Return vectors (b d) in a form, without a gradient; pandas has the columns "0" to "d - 1".

    Raises:
        PartArgumentError: an unknown form.
    """
    require_form(to, caller)
    vectors = vectors.detach()
    if to == "torch":
        return vectors
    array = vectors.cpu().numpy()
    if to == "numpy":
        return array
    from reprkit.data.formats.frame_columns import numbered_frame

    return numbered_frame(array)


def values_to(values: Tensor, field: Field, to: Form, caller: str = "decode") -> Any:
    """Return values in the layout of a field (b ...), in the data's own units.

    Real values are clamped to the field's range.  The rows of a table are in the table's units; the elements of a category become 1
    for the most probable class and 0 for the others.  With pandas a table has its named columns, its classes and its dates, and
    another vector the columns "0" to "d - 1".

    Raises:
        PartArgumentError: an unknown form.
        DataError: pandas for data that is no vector.
    """
    require_form(to, caller)
    values = values.detach()
    if not field.discrete and field.range is not None:
        values = values.clamp(*field.range)
    if field.kind == "vector" and to == "pandas" and field.columns:
        from reprkit.data.formats.frame_columns import decode_rows

        return decode_rows(values, field.columns)
    if field.columns:
        values = _one_hot(values, field)
    if to == "torch":
        return values
    if to == "numpy":
        return values.cpu().numpy()
    if field.kind != "vector":
        raise DataError(
            f"{caller}: to='pandas' is for vectors and tables, and the output is {field.kind} ({field.axes})\n"
            "  ask for to='numpy' or to='torch'"
        )
    return vectors_to(values, to, caller)


def _one_hot(values: Tensor, field: Field) -> Tensor:
    """Return the rows of a table with 1 at the most probable class of each category, and 0 at the others."""
    pieces = []
    for column, elements in field.column_slices:
        piece = values[..., elements]
        if column.kind == "category":
            piece = torch.nn.functional.one_hot(piece.argmax(-1), column.width).to(values.dtype)
        pieces.append(piece)
    return torch.cat(pieces, -1)


def codes_to(codes: Codes, to: Form) -> dict[str, Any]:
    """Return the code of each factor as an array: indices (b n q) of a discrete latent, else vectors (b n d).

    Raises:
        PartArgumentError: an unknown form, or pandas.
    """
    require_form(to, "encode")
    if to == "pandas":
        raise PartArgumentError(
            "encode: codes have tokens (b n d), which no DataFrame holds; one row an example: represent(data, to='pandas')"
        )
    arrays = {
        name: (code.point if code.indices is None else code.indices).detach() for name, code in codes.items()
    }
    return arrays if to == "torch" else {name: value.cpu().numpy() for name, value in arrays.items()}


def as_codes(model: Model, given: Any) -> Codes | Mapping[str, Code]:
    """Return codes, from ``Codes`` or from arrays as ``encode(to=)`` and ``represent`` give them.

    An array is (b n d) or (b d), of real numbers, or whole numbers (b n q) where the latent is discrete; a mapping holds one
    for each factor.  The grid of the tokens is that of the data which the model learned.

    Raises:
        DataError: no array of numbers, or of another width or number of tokens.
        BuildError: an array for a model with several factors.
    """
    if isinstance(given, Codes) or (
        isinstance(given, Mapping) and all(isinstance(code, Code) for code in given.values())
    ):
        return given
    if not isinstance(given, Mapping):
        if len(model.factors) != 1:
            raise BuildError(
                f"decode: the model has {len(model.factors)} factors, {', '.join(model.factors)}: give an array for each, by name"
            )
        given = {next(iter(model.factors)): given}
    layout = _layout(model)
    codes = {}
    for name, value in given.items():
        latent = model.latent(name)
        tensor = _as_tensor(value, name).to(model.device)
        like = layout.get(name)
        if not tensor.is_floating_point():
            if latent.vocab is None:
                raise DataError(f"decode: the code of {name} is real, and the array holds whole numbers")
            z = latent.embed(tensor.long()).to(model.factors[name].code_dtype)
            codes[name] = _in_layout(Code(z=z, indices=tensor.long()), like, name)
            continue
        z = (tensor.unsqueeze(1) if tensor.ndim == 2 else tensor).to(model.factors[name].code_dtype)
        if z.ndim != 3 or z.shape[-1] != latent.out_dim:
            raise DataError(
                f"decode: the code of {name} is (b n {latent.out_dim}), or (b {latent.out_dim}) for one token, not "
                f"{tuple(tensor.shape)}"
            )
        codes[name] = _in_layout(Code(z=z), like, name)
    return Codes(codes)


def _layout(model: Model) -> Mapping[str, Code]:
    """Return the codes of a blank example, whose tokens and grid are those of all data of fixed length."""
    if model.signature is None or not model.factors:
        return {}
    with torch.no_grad(), isolate(model, 0):
        return model.encode(model.signature.example())


def _in_layout(code: Code, like: Code | None, name: str) -> Code:
    """Return the code with the grid of the data's tokens.

    Raises:
        DataError: another number of tokens than that of a grid with rows and columns.
    """
    tokens = code.z.shape[1]
    if like is None or like.z.shape[1] == tokens:
        return code if like is None else replace(code, grid=like.grid, length=like.length)
    if like.grid is not None and len(like.grid) > 1:
        raise DataError(
            f"decode: the code of {name} has {like.z.shape[1]} tokens ({' x '.join(map(str, like.grid))}), not {tokens}"
        )
    return replace(
        code, grid=None if like.grid is None else (tokens,), length=None if like.length is None else tokens
    )


def _as_tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if hasattr(value, "to_numpy"):  # a DataFrame
        value = value.to_numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise DataError(
            f"decode: the code of {name} is an array of numbers or Codes, not {type(value).__name__}"
        )
    return torch.from_numpy(np.ascontiguousarray(array))


def decoded_to(model: Model, decoded: Decoded, to: Form, output: str | None = None) -> Any:
    """Return the point estimate of a decoded output in the data's layout and units: see ``values_to``."""
    field = model.get_output(output).field
    return values_to(from_tokens(decoded.x, decoded.grid or (1,), field), field, to)
