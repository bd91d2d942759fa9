"""Tables with named columns: CSV, TSV and Parquet files, DataFrames of pandas and polars, and scikit-learn's Bunch."""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from reprkit.data.base import Dataset
from reprkit.data.formats.frame_columns import (
    DAYS,
    LABELS,
    encode_rows,
    fit_columns,
    infer_kinds,
    require_columns,
)
from reprkit.data.formats.tensors import Tensors
from reprkit.data.formats.value_readers import class_facts
from reprkit.data.signature import Column, Field, Signature
from reprkit.errors import DataError, nearest

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = frozenset((".csv", ".tsv", ".parquet"))


class Table(Tensors):
    """Rows of a table: the field ``x`` is a vector with a named column for each number, date and category; ``label`` a class.

    What is not declared is decided by these rules, and ``facts["columns"]`` says the result:

    =====================================================  ======================================================
    column                                                 kind
    =====================================================  ======================================================
    without a value, or one text for all rows              dropped (``facts["dropped"]`` gives the reason)
    called label, labels, target or class                  label; refused if it holds fractions or over 50 numbers
    boolean, or a pandas category                          category, one-hot
    number                                                 number, in the table's units
    date, or text that is an ISO 8601 date in every row    date, in days since 1970-01-01
    text of at most 50 different values                    category, one-hot
    other text                                             refused: declare ``columns={"name": "drop"}``
    =====================================================  ======================================================

    A gap is a missing value, False in ``x_mask`` (b d); a row without any value is left out (``facts["rows left out"]``).

    The signature holds the mean and standard deviation of each number and the classes of each category.  Encoders standardize by
    them and outputs start there (``reprkit.data.Column``).  ``split`` and ``rk.data.fold`` fit them to the training part alone; a
    class that occurs only in another part is a missing value there (``facts["classes not learned"]``).

    Args:
        path: a .csv, .tsv or .parquet file, a DataFrame of pandas or polars, or a scikit-learn Bunch.
        columns: column -> "number", "category", "date", "label" or "drop".
        group: a column whose rows of equal value stay in one part of ``split``, such as the patient.  The part follows from a hash
            of the value and the seed, so more rows change no earlier one's part.  It is no part of ``x``.
        like: the data set or signature whose columns, statistics and classes hold here too, for new rows of a learned table.  Other
            columns of the table are dropped.
        separator: between the columns of a text file; by default a comma, and a tab in a .tsv file.
        missing: texts that stand for a missing value, besides pandas' own (an empty field, NA, NaN, null, ...).
        encoding: of a text file.

    Raises:
        DataError: no such file, one that cannot be read, a column that no rule decides, or values that do not fit their kind.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Any,
        *,
        columns: Mapping[str, str] | None = None,
        group: str | None = None,
        like: Dataset | Signature | None = None,
        separator: str | None = None,
        missing: Sequence[str] = (),
        encoding: str = "utf-8",
    ) -> None:
        name, frame = read_frame(path, separator, missing, encoding)
        fields = like.signature if isinstance(like, Dataset) else like
        learned = self._learned = None if fields is None else fields["x"].columns
        declared = {**(columns or {}), **_kinds_of(learned or (), frame)}
        if group is not None:
            if group not in frame.columns:
                raise DataError(
                    f"{name} has no column {group!r} for group=.{nearest(group, list(frame.columns))}"
                )
            declared[group] = "drop"
        others = (
            [] if learned is None else [c for c in frame if c not in declared and c.lower() not in LABELS]
        )
        kinds, dropped = infer_kinds(frame, {**dict.fromkeys(others, "drop"), **declared}, name)
        dropped |= dict.fromkeys(others, "not among the columns of like=")
        used = [column for column, kind in kinds.items() if kind not in ("drop", "label")]
        if not used:
            raise DataError(f"{name} has no column for x: {_list_kinds(kinds)}")
        empty = frame[used].isna().all(axis=1)
        self._frame = frame[~empty].reset_index(drop=True)
        if not len(self._frame):
            raise DataError(f"{name} holds no rows")
        self._kinds = {column: kinds[column] for column in used}
        self._label = next((column for column, kind in kinds.items() if kind == "label"), None)
        self._groups = None if group is None else self._frame[group].astype(str).tolist()
        self._labels, self._classes = self._number_labels(name)
        self.facts: dict[str, Any] = {"columns": self._describe_columns()}
        self.facts |= {"dropped": dropped} if dropped else {}
        self.facts |= {"rows left out": int(empty.sum())} if empty.any() else {}
        self.facts |= class_facts({"label": self._classes}) if self._classes else {}
        self._fill(learned or fit_columns(self._frame, self._kinds), name)

    def fit_statistics(self, rows: Int[Tensor, " m"]) -> Table:
        """Return the table with the columns' statistics and classes of these rows (m,), or, with ``like``, as it is."""
        if self._learned is not None:
            return self
        frame = self._frame.iloc[rows.numpy()]
        return self._fitted(fit_columns(frame, self._kinds, self.signature["x"].columns))

    def identities(self) -> Sequence[str] | None:
        """Return the value of ``group`` in each row; None without it."""
        return self._groups

    def _fitted(self, columns: tuple[Column, ...]) -> Table:
        """Return the same rows with other statistics and classes."""
        fitted = copy.copy(self)
        fitted.facts = dict(self.facts)
        fitted._fill(columns, self._name)
        return fitted

    def _fill(self, columns: tuple[Column, ...], name: str) -> None:
        """Set signature and values; record the number of rows with a class that ``columns`` do not list."""
        x, known, unseen = encode_rows(self._frame, columns)
        fields = {"x": Field(kind="vector", shape=(x.shape[1],), columns=columns)}
        values = {"x": x}
        if not known.all():
            values["x_mask"] = known
        if self._labels is not None:
            names = tuple(map(str, self._classes))
            fields["label"] = Field(kind="label", shape=(), vocab=len(names), classes=names)
            values["label"] = self._labels
        Tensors.__init__(self, values, Signature(fields), name=name)
        if unseen:
            self.facts["classes not learned"] = unseen

    def _number_labels(self, name: str) -> tuple[torch.Tensor | None, list[Any]]:
        """Return the class of each row and the classes, in sorted order; numbers are sorted as numbers."""
        if self._label is None:
            return None, []
        values = self._frame[self._label]
        if values.isna().any():
            raise DataError(
                f"{name}: {int(values.isna().sum())} of {len(values)} rows have no label (column {self._label!r})\n"
                f"  leave these rows out, or declare columns={{{self._label!r}: 'category'}}"
            )
        classes = sorted(values.unique().tolist(), key=lambda each: (isinstance(each, str), each))
        numbers = {each: index for index, each in enumerate(classes)}
        return torch.tensor([numbers[each] for each in values.tolist()]), [_plain(each) for each in classes]

    def _describe_columns(self) -> str:
        """Return what was read, in one line."""
        label = "" if self._label is None else f"; label {self._label!r}: {len(self._classes)} classes"
        return f"x: table of {_list_kinds(self._kinds)}, {len(self._frame):,} rows{label}"


def read_frame(
    source: Any, separator: str | None = None, missing: Sequence[str] = (), encoding: str = "utf-8"
) -> tuple[str, pd.DataFrame]:
    """Return a short name and a pandas DataFrame of a file, a DataFrame of pandas or polars, or a Bunch.

    Raises:
        DataError: none of these, no such file, or a file that cannot be read as a table.
    """
    import pandas as pd

    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        return path.stem, _with_names(_read_file(path, separator, missing, encoding), str(path))
    if isinstance(source, pd.DataFrame):
        return "table", _with_names(source, "the DataFrame")
    if is_polars(source):
        return "table", pd.DataFrame({name: source[name].to_list() for name in source.columns})
    if is_bunch(source):
        return "table", _from_bunch(source)
    raise DataError(
        f"a table is a .csv, .tsv or .parquet file, a DataFrame of pandas or polars, or a scikit-learn Bunch, not "
        f"{type(source).__name__}"
    )


def is_frame(source: Any) -> bool:
    """Whether the source is a DataFrame of pandas or polars, or a Bunch of scikit-learn; imports none of them."""
    return (
        type(source).__module__.partition(".")[0] == "pandas" and type(source).__name__ == "DataFrame"
    ) or (is_polars(source) or is_bunch(source))


def is_polars(source: Any) -> bool:
    """Whether the source is a DataFrame of polars."""
    return type(source).__module__.partition(".")[0] == "polars" and type(source).__name__ == "DataFrame"


def is_bunch(source: Any) -> bool:
    """Whether the source is a Bunch, as scikit-learn's loaders return it."""
    return type(source).__module__.partition(".")[0] == "sklearn" and type(source).__name__ == "Bunch"


def _read_file(path: Path, separator: str | None, missing: Sequence[str], encoding: str) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise DataError(f"no file {str(path)!r} (looked in {Path.cwd()})")
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        given = separator or ("\t" if suffix == ".tsv" else ",")
        encoding = "utf-8-sig" if encoding.lower().replace("-", "") == "utf8" else encoding
        frame = pd.read_csv(path, sep=given, na_values=list(missing), encoding=encoding, low_memory=False)
    except ImportError as error:
        raise DataError(
            f"{str(path)!r} is Parquet, which pandas reads with pyarrow: pip install pyarrow"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{str(path)!r} is no {encoding} text ({error.reason} at byte {error.start})\n"
            "  declare encoding='latin-1', 'utf-16' or another"
        ) from error
    except (
        ValueError,
        OSError,
        LookupError,
    ) as error:  # pandas' ParserError and EmptyDataError are ValueErrors
        raise DataError(
            f"{str(path)!r} cannot be read as a table: {str(error).strip().splitlines()[0][:300]}"
        ) from error
    others = [other for other in (";", "\t", "|", ",") if other != given and other in str(frame.columns[0])]
    if len(frame.columns) == 1 and separator is None and others:
        raise DataError(
            f"{str(path)!r} has one column, {str(frame.columns[0])[:60]!r}, when it is read with the separator {given!r}\n"
            f"  declare separator={others[0]!r} (decimal commas: read it with pandas.read_csv(decimal=',') and give the DataFrame)"
        )
    if len(frame.columns) > 1 and all(_is_number(name) for name in frame.columns):
        raise DataError(
            f"the first line of {str(path)!r} holds numbers, not names of columns: {', '.join(map(str, frame.columns[:5]))}\n"
            "  add a line of names, or read it with pandas.read_csv(header=None) and give the DataFrame"
        )
    return frame


def _with_names(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return the frame with texts as names of columns.

    Raises:
        DataError: two columns of one name.
    """
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    twice = [name for name, count in Counter(frame.columns).items() if count > 1]
    if twice:
        raise DataError(f"{where} has two columns {twice[0]!r}: rename one")
    return frame


def _from_bunch(bunch: Any) -> pd.DataFrame:
    """Return the table of a Bunch: the columns of ``data`` by ``feature_names``, and ``target`` as the label, by ``target_names``.

    Raises:
        DataError: no table, or a target that is no class.
    """
    import pandas as pd

    data = bunch.get("data")
    if not hasattr(data, "shape") or len(data.shape) != 2:
        raise DataError(f"the Bunch has no table (n d) called data; it has {', '.join(bunch)}")
    frame = data.copy() if isinstance(data, pd.DataFrame) else pd.DataFrame(np.asarray(data))
    if not isinstance(data, pd.DataFrame):
        names = bunch.get("feature_names")
        frame.columns = (
            list(names) if names is not None and len(names) else [f"column {i}" for i in range(data.shape[1])]
        )
    frame = _with_names(frame, "the Bunch")
    target = bunch.get("target")
    if target is None or "target" in frame:
        return frame
    target = pd.Series(np.asarray(target).reshape(len(frame), -1)[:, 0], index=frame.index)
    names = bunch.get("target_names")
    if names is not None and pd.api.types.is_integer_dtype(target) and len(names) > target.max():
        target = target.map(lambda index: str(names[index]))
    return frame.assign(target=target)


def _kinds_of(learned: Sequence[Column], frame: pd.DataFrame) -> dict[str, str]:
    """Return the kinds of learned columns: column -> kind.

    Raises:
        DataError: the frame lacks one.
    """
    require_columns(frame, learned)
    return {column.name: "date" if column.unit == DAYS else column.kind for column in learned}


def _list_kinds(kinds: Mapping[str, str]) -> str:
    names = {
        "number": "numbers",
        "category": "categories",
        "date": "dates",
        "label": "labels",
        "drop": "dropped",
    }
    counts = Counter(kinds.values())
    listed = ", ".join(
        f"{counts[kind]} {kind if counts[kind] == 1 else plural}"
        for kind, plural in names.items()
        if counts[kind]
    )
    return f"{len(kinds)} column{'' if len(kinds) == 1 else 's'} ({listed})"


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(value: Any) -> Any:
    """Return a class as plain JSON."""
    return (
        value.item()
        if isinstance(value, np.generic)
        else value
        if isinstance(value, str | int | bool | float)
        else str(value)
    )
