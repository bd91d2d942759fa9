"""Columns of a pandas DataFrame: what each holds, their statistics, and the conversion of rows to vectors and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from reprkit.data.formats.table_columns import encode_columns, number_column
from reprkit.data.signature import Column, Field
from reprkit.errors import DataError, nearest

if TYPE_CHECKING:
    import pandas as pd

ColumnKind = Literal["number", "category", "date", "label", "drop"]
KINDS: tuple[str, ...] = get_args(ColumnKind)
MAX_CLASSES = 50  # a text with more different values is no category unless it is declared
LABELS = ("label", "labels", "target", "class")
DAYS = "days since 1970-01-01"
_DATE = r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?"


def infer_kinds(
    frame: pd.DataFrame, declared: Mapping[str, str], where: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the kind of each column, and the reason for each that is dropped by rule.

    Rules, for a column that is not declared:

    1. No value, or one value only of a text or boolean: dropped.  ``Unnamed: 0`` that counts the rows: dropped.
    2. Named label, labels, target or class: the label, where none is declared.  A number there with fractions or more than 50
       values is refused.
    3. Boolean, or a pandas category: a category.
    4. A number: a number.
    5. A date, or text that is an ISO 8601 date in every row: a date.
    6. Text with at most 50 different values: a category.  More is refused.

    Raises:
        DataError: a declared column that does not exist, an unknown kind, two labels, or a text that no rule decides.
    """
    for name, kind in declared.items():
        if name not in frame.columns:
            raise DataError(
                f"{where} has no column {name!r}.{nearest(name, list(frame.columns))}\n"
                f"  its columns: {', '.join(map(str, frame.columns))}"
            )
        if kind not in KINDS:
            raise DataError(
                f"columns={{{name!r}: {kind!r}}}: no kind of column {kind!r}.{nearest(kind, KINDS)}\n"
                f"  known: {', '.join(KINDS)}"
            )
    labels = [name for name, kind in declared.items() if kind == "label"]
    if len(labels) > 1:
        raise DataError(f"one column is the label, not {len(labels)}: {', '.join(labels)}")
    kinds: dict[str, str] = {}
    reasons: dict[str, str] = {}
    undecided: list[str] = []
    for name in map(str, frame.columns):
        if name in declared:
            kinds[name] = declared[name]
            continue
        inferred = _infer(name, frame[name], may_be_label=not labels)
        if inferred is None:
            undecided.append(name)
        elif inferred.startswith("drop"):
            kinds[name], reasons[name] = "drop", inferred.removeprefix("drop: ")
        else:
            kinds[name] = inferred
    found = [name for name, kind in kinds.items() if kind == "label"]
    if len(found) > 1:
        call = ", ".join(f"{name!r}: 'category'" for name in found[1:])
        raise DataError(
            f"{where}: {' and '.join(found)} could all be the label\n  declare columns={{{found[0]!r}: 'label', {call}}}"
        )
    if undecided:
        shown = ", ".join(f"{name!r} ({frame[name].nunique()} different values)" for name in undecided[:5])
        call = ", ".join(f"{name!r}: 'drop'" for name in undecided)
        raise DataError(
            f"{where}: no rule decides what these columns are: {shown}{' ...' if len(undecided) > 5 else ''}\n"
            f"  declare columns={{{call}}} to leave them out; or 'category' where each text is a class, 'number', 'label'"
        )
    return kinds, reasons


def _infer(name: str, values: Any, *, may_be_label: bool) -> str | None:
    """Return the kind of one column by the rules of ``infer_kinds``; None where none decides."""
    import pandas as pd
    from pandas.api import types

    known = values.dropna()
    boolean = types.is_bool_dtype(values) or (len(known) and known.map(type).eq(bool).all())
    number = types.is_numeric_dtype(values) and not boolean
    if not len(known):
        return "drop: no value"
    if name.startswith("Unnamed: ") and number and np.array_equal(known, np.arange(len(values))):
        return "drop: it counts the rows"
    if may_be_label and name.lower() in LABELS:
        is_class = not number or (bool((known == known.round()).all()) and known.nunique() <= MAX_CLASSES)
        return "label" if is_class else None
    if number:
        return "number"
    if known.nunique() == 1:
        return f"drop: always {str(known.iloc[0])[:40]!r}"
    if boolean or isinstance(values.dtype, pd.CategoricalDtype):
        return "category"
    if types.is_datetime64_any_dtype(values):
        return "date"
    texts = known.astype(str)
    if bool(texts.str.fullmatch(_DATE).all()):
        return "date"
    return "category" if texts.nunique() <= MAX_CLASSES else None


def fit_columns(
    frame: pd.DataFrame, kinds: Mapping[str, str], whole: Sequence[Column] = ()
) -> tuple[Column, ...]:
    """Return the columns of a vector field, with mean, standard deviation and classes of these rows.

    Args:
        frame: the rows.
        kinds: column -> kind.
        whole: columns of a larger table; a category that has one class in these rows has the classes of the larger table.

    Raises:
        DataError: values that do not fit their kind, or a category with one class.
    """
    columns = []
    for name, kind in kinds.items():
        if kind == "category":
            classes = sorted(_texts(frame[name]).dropna().unique())
            if len(classes) < 2:
                classes = next((list(column.classes) for column in whole if column.name == name), classes)
            if len(classes) < 2:
                raise DataError(f"column {name!r} is a category with one class, {classes}: declare it 'drop'")
            columns.append(Column(name, "category", classes=tuple(classes)))
        elif kind in ("number", "date"):
            values = _numbers(name, frame[name], kind)
            columns.append(number_column(name, values[~np.isnan(values)], DAYS if kind == "date" else ""))
    return tuple(columns)


def require_columns(frame: pd.DataFrame, columns: Sequence[Column]) -> None:
    """Check that the frame has these columns.

    Raises:
        DataError: it lacks one.
    """
    missing = [column.name for column in columns if column.name not in frame.columns]
    if missing:
        raise DataError(
            f"the table has no column {', '.join(map(repr, missing))}.{nearest(missing[0], list(frame.columns))}\n"
            f"  its columns: {', '.join(map(str, frame.columns))}"
        )


def encode_rows(
    frame: pd.DataFrame, columns: Sequence[Column]
) -> tuple[Float[Tensor, "n d"], Bool[Tensor, "n d"], dict[str, int]]:
    """Convert rows to vectors: values, which of them are known, and the number of rows whose category is none of its classes.

    Numbers are in the table's units, dates in days since 1970-01-01, categories one-hot.  An unknown value, and a class that the
    columns do not list, is 0 and False.

    Raises:
        DataError: a column is missing in the frame, or holds what is no number.
    """
    require_columns(frame, columns)
    values = np.empty((len(frame), len(columns)))
    unseen: dict[str, int] = {}
    for index, column in enumerate(columns):
        if column.kind == "number":
            kind = "date" if column.unit == DAYS else "number"
            values[:, index] = _numbers(column.name, frame[column.name], kind)
            continue
        texts = _texts(frame[column.name])
        numbers = {each: number for number, each in enumerate(column.classes)}
        values[:, index] = texts.map(numbers).to_numpy(dtype=float)
        if others := int(texts.notna().sum() - (~np.isnan(values[:, index])).sum()):
            unseen[column.name] = others
    x, known = encode_columns(torch.from_numpy(values), columns)
    return x, known, unseen


def numbered_frame(rows: np.ndarray) -> pd.DataFrame:
    """Return rows (n d) without names of columns as a DataFrame with the columns "0" to "d - 1"."""
    import pandas as pd

    return pd.DataFrame(rows, columns=[str(index) for index in range(rows.shape[1])])


def decode_rows(
    x: Float[Tensor, "n d"], columns: Sequence[Column], known: Bool[Tensor, "n d"] | None = None
) -> pd.DataFrame:
    """Convert vectors to rows in the table's own units: dates as dates, the most probable class of a category.

    Args:
        x: vectors.
        columns: of the field.
        known: False at elements whose value is missing, which become NaN, NaT or None.
    """
    import pandas as pd

    rows = x.detach().cpu().double().numpy()
    present = None if known is None else known.cpu().numpy()
    found: dict[str, Any] = {}
    for column, elements in Field(kind="vector", shape=(x.shape[1],), columns=tuple(columns)).column_slices:
        missing = np.zeros(len(rows), bool) if present is None else ~present[:, elements.start]
        if column.kind == "number":
            numbers = np.where(missing, np.nan, rows[:, elements.start])
            found[column.name] = (
                pd.Timestamp("1970-01-01") + pd.to_timedelta(numbers, unit="D")
                if column.unit == DAYS
                else numbers
            )
        else:
            classes = np.array(column.classes, dtype=object)[rows[:, elements].argmax(1)]
            found[column.name] = np.where(missing, None, classes)
    return pd.DataFrame(found)


def _texts(values: Any) -> Any:
    """Return the values of a category as text; whole numbers that are floats because of gaps are written as integers."""
    from pandas.api import types

    if types.is_float_dtype(values) and bool((values.dropna() == values.dropna().round()).all()):
        values = values.astype("Int64")
    return values.astype(object).where(values.notna()).map(str, na_action="ignore")


def _numbers(name: str, values: Any, kind: str) -> np.ndarray:
    """Return numbers (n,), float64, NaN where one is missing.

    Raises:
        DataError: a text that is none, or an infinite number.
    """
    import pandas as pd

    if kind == "date":
        dates = pd.to_datetime(values, utc=True, errors="coerce", format="ISO8601")
        _refuse(name, values, dates.isna() & values.notna(), "a date (ISO 8601, such as 2026-11-29)")
        days = (dates - pd.Timestamp("1970-01-01", tz="UTC")) / pd.Timedelta(days=1)
        return np.asarray(days.to_numpy(dtype=float))
    numbers = pd.to_numeric(values, errors="coerce")
    _refuse(name, values, numbers.isna() & values.notna(), "a number")
    array = np.asarray(numbers.to_numpy(dtype=float, na_value=np.nan))
    _refuse(name, values, pd.Series(np.isinf(array), index=values.index), "a finite number")
    return array


def _refuse(name: str, values: Any, wrong: Any, wanted: str) -> None:
    if wrong.any():
        first = wrong.idxmax()
        text = str(values[first])[:60]
        raise DataError(
            f"column {name!r} holds {text!r} in row {first}, which is not {wanted}, and {int(wrong.sum()) - 1} more like it\n"
            f"  if it stands for a missing value: missing=[{text!r}]; or declare columns={{{name!r}: 'category'}}"
        )
