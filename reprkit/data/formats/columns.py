"""Columns of a Hugging Face data set: the field of each column, and the conversion of rows to tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from reprkit.data.formats.media_readers import AudioReader, ImageReader, Size
from reprkit.data.formats.table_columns import column_names
from reprkit.data.formats.table_reader import TableReader, check_categories
from reprkit.data.formats.value_readers import LabelReader, ValueReader, class_facts, make_reader
from reprkit.data.signature import Column, Signature
from reprkit.errors import DataError, nearest

ColumnMap = Mapping[str, str | Sequence[str | Column]] | None
HEAD = 100  # first rows, whose majority decides the width of lists
_LABELS = ("label", "labels")


class Columns:
    """Converter from rows to examples.

    =========================================  ==========================================================
    column                                     field
    =========================================  ==========================================================
    Image                                      image (h w c) of ``size``, in [0, 1]
    Audio                                      sequence (t 1), of varying length, at ``rate``
    ClassLabel; integers, booleans; any        label
    column for the field "label"
    string                                     tokens (t,), its UTF-8 bytes, of varying length
    list of numbers                            vector (d,), all of one length
    list of lists of numbers                   sequence (t c), of varying length
    a float, or several columns                vector (d,); with ``categories``, a table's row
    =========================================  ==========================================================

    Args:
        features: column -> its feature; images and audio without decoding.
        head: some of the first rows, which decide the width of lists.
        column_map: field -> column, or a list of numeric columns, each a name or an ``rk.Column``, which describes it; None
            takes a column "label" or "labels" or the only ClassLabel for ``label``, and the only other one for ``x``.
        size: (h, w) of images, (h, w, 1) for grayscale, or one number for both sides.
        rate: sampling rate of audio, in Hz.
        where: name of the data in messages.
        categories: columns of tables that are categories, besides texts, booleans and ClassLabels; None
            reads several columns as plain numbers, unless they are described.
        stream: whether rows cannot be read in advance, so that all columns of a table must be described.

    Raises:
        DataError: no such column, no column that could be ``x``, or an unsupported one.
    """

    def __init__(
        self,
        features: Mapping[str, Any],
        head: Sequence[Mapping[str, Any]],
        column_map: ColumnMap,
        size: Size,
        rate: int,
        where: str,
        categories: Sequence[str] | None = None,
        stream: bool = False,
    ) -> None:
        self._categories, self._stream = categories, stream
        chosen = _infer_columns(features, where) if column_map is None else dict(column_map)
        if not chosen:
            raise DataError("columns= names no field; for example columns={'x': 'image', 'label': 'label'}")
        self._sources: dict[str, str | list[str]] = {}
        self._readers: dict[str, ValueReader] = {}
        self.class_names: dict[str, list[Any]] = {}
        for name, source in chosen.items():
            for column in column_names(source):
                if column not in features:
                    raise DataError(
                        f"{where} has no column {column!r} for field {name!r}.{nearest(column, features)}\n"
                        f"  its columns: {_list_columns(features)}"
                    )
            self._sources[name], self._readers[name] = self._make_reader(
                name, source, features, head, size, rate
            )
        check_categories(categories or (), self._readers.values())
        self.columns = sorted(
            {
                column
                for source in self._sources.values()
                for column in ([source] if isinstance(source, str) else source)
            }
        )

    @property
    def labels_without_classes(self) -> list[str]:
        """Labels whose classes are known only after all rows were read."""
        return [
            name
            for name, reader in self._readers.items()
            if isinstance(reader, LabelReader) and reader.classes is None
        ]

    @property
    def divisors(self) -> dict[str, float]:
        """Divisors of stored values: field -> divisor."""
        return {name: 255.0 for name, reader in self._readers.items() if isinstance(reader, ImageReader)}

    def read_row(self, row: Mapping[str, Any]) -> dict[str, Tensor]:
        """Convert a row to tensors to store: images as uint8; labels whose classes are not known yet are left out.

        Raises:
            DataError: a value is missing, or differs in type or size from the others of its column.
            Exception: what decoders raise.
        """
        example: dict[str, Tensor] = {}
        for name, reader in self._readers.items():
            try:
                value = reader.validate(self._value(name, row))
                if _is_ready(reader):
                    example |= _convert(name, reader, value)
            except DataError as error:
                raise DataError(f"column {self._sources[name]!r} {error}") from error
        return example

    def observe(self, row: Mapping[str, Any]) -> None:
        """Take account of the labels and tables of a row that ``read_row`` has read."""
        for name, reader in self._readers.items():
            if isinstance(reader, _WITH_CLASSES):
                reader.observe(reader.validate(self._value(name, row)))

    def number_classes(self) -> None:
        """Number the classes; rows with other classes are refused from now on."""
        for name, reader in self._readers.items():
            if isinstance(reader, TableReader):
                reader.finish()
            if isinstance(reader, LabelReader):
                reader.classes = reader.number_classes()
                reader.allowed = frozenset(reader.classes)
                self.class_names.setdefault(name, reader.classes)

    @property
    def class_columns(self) -> list[str]:
        """Columns of labels and tables, whose classes may be known only after all rows were read."""
        found = [
            self._sources[name] for name, reader in self._readers.items() if isinstance(reader, _WITH_CLASSES)
        ]
        return [column for source in found for column in ([source] if isinstance(source, str) else source)]

    @property
    def complete_tables(self) -> list[str]:
        """Fields that are tables without a missing value, which need no mask; known after all rows were observed."""
        return [
            name
            for name, reader in self._readers.items()
            if isinstance(reader, TableReader) and not reader.missing
        ]

    def with_classes(self, row: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return only the labels and tables of a row."""
        example: dict[str, Tensor] = {}
        for name, reader in self._readers.items():
            if isinstance(reader, _WITH_CLASSES):
                example |= _convert(name, reader, reader.validate(self._value(name, row)))
        return example

    def example(self, row: Mapping[str, Any]) -> dict[str, Tensor]:
        """Convert a row to an example; raises as ``read_row`` does."""
        return self.to_batch_dtype(self.read_row(row))

    def to_batch_dtype(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert stored tensors to the types and ranges of a batch."""
        return {
            name: value.float().div_(255) if name in self.divisors else value
            for name, value in stored.items()
        }

    def signature(self) -> Signature:
        """Return the signature, once the classes are numbered."""
        fields = {name: reader.field() for name, reader in self._readers.items()}
        for name, classes in self.class_names.items():
            if fields[name].vocab == len(classes):
                fields[name] = replace(fields[name], classes=tuple(map(str, classes)))
        return Signature(fields)

    def facts(self) -> dict[str, Any]:
        """Return the entries for ``describe``: names of classes."""
        return class_facts(self.class_names)

    def _value(self, name: str, row: Mapping[str, Any]) -> Any:
        source = self._sources[name]
        return row[source] if isinstance(source, str) else [row[column] for column in source]

    def _make_reader(
        self,
        name: str,
        source: str | Sequence[str | Column],
        features: Mapping[str, Any],
        head: Sequence[Mapping[str, Any]],
        size: Size,
        rate: int,
    ) -> tuple[str | list[str], ValueReader]:
        declared = {} if isinstance(source, str) else {c.name: c for c in source if isinstance(c, Column)}
        if declared or (not isinstance(source, str) and self._categories is not None):
            names = column_names(source)
            unknown = [column for column in names if column not in declared]
            if self._stream and unknown:
                raise DataError(
                    f"field {name!r}: a stream cannot know mean, standard deviation or classes of column {unknown[0]!r} in "
                    f"advance: give rk.Column({unknown[0]!r}, mean=..., std=...), or read the data with hub(...)"
                )
            return names, _table_reader(
                names, features, self._categories or (), declared, masked=self._stream
            )
        if not isinstance(source, str):
            source = column_names(source)
            for column in source:
                if _nesting_depth(features[column]) != 0:
                    raise _unsupported(
                        column, features[column], "several columns form one vector only if all are numeric"
                    )
            return list(source), make_reader(name, [[row[c] for c in source] for row in head], kind="vector")
        feature = features[source]
        kind = type(feature).__name__
        if kind == "Image":
            if size is None:
                raise DataError(f"column {source!r} holds images: give size=(h, w), to which all are resized")
            return source, ImageReader(size)
        if kind == "Audio":
            return source, AudioReader(rate)
        values = [row[source] for row in head]
        if kind == "ClassLabel":
            self.class_names[name] = list(feature.names)
            reader = LabelReader(int, list(range(feature.num_classes)))
            reader.number_classes()
            return source, reader
        label = name == "label" and kind == "Value"
        if label or (kind == "Value" and "string" in feature.dtype):
            return source, make_reader(name, values, kind="label" if label else "tokens")
        depth = _nesting_depth(feature)
        if depth == 0 and feature.dtype.startswith(("float", "double")):
            return [source], make_reader(name, [[value] for value in values], kind="vector")
        if depth is None:
            raise _unsupported(
                source,
                feature,
                "choose other columns, or convert it to one of the types that `reprkit show dataset hub` lists",
            )
        return source, make_reader(name, values, kind=("label", "vector", "sequence")[depth])


_WITH_CLASSES = (LabelReader, TableReader)


def _is_ready(reader: ValueReader) -> bool:
    """Whether the reader can convert rows now: the classes of a label or of a table's categories are known."""
    if isinstance(reader, TableReader):
        return reader.ready
    return not isinstance(reader, LabelReader) or bool(reader.class_indices)


def _convert(name: str, reader: ValueReader, value: Any) -> dict[str, Tensor]:
    """Return a value as a tensor, and the mask of a table's row."""
    if isinstance(reader, TableReader) and (reader.missing or not reader.finished):
        x, known = reader.encode(value)
        return {name: x, f"{name}_mask": known}
    return {name: reader(value)}


def _table_reader(
    source: Sequence[str],
    features: Mapping[str, Any],
    categories: Sequence[str],
    declared: Mapping[str, Column],
    masked: bool,
) -> TableReader:
    """Create the reader of several columns: texts, booleans, ClassLabels and those named are categories."""
    found, classes = [], {}
    for column in source:
        feature = features[column]
        kind, dtype = type(feature).__name__, str(getattr(feature, "dtype", ""))
        if kind == "ClassLabel":
            classes[column] = list(feature.names)
        elif kind != "Value" or not ("string" in dtype or _nesting_depth(feature) == 0):
            raise _unsupported(
                column, feature, "the columns of a table are numbers, texts, booleans or ClassLabels"
            )
        if kind == "ClassLabel" or "string" in dtype or dtype == "bool" or column in categories:
            found.append(column)
    return TableReader(source, found, classes, declared, masked)


def _infer_columns(features: Mapping[str, Any], where: str) -> dict[str, str]:
    labels = [n for n in features if n in _LABELS] or [
        n for n, f in features.items() if type(f).__name__ == "ClassLabel"
    ]
    label = labels[0] if len(labels) == 1 else None
    others = [name for name in features if name != label]
    source = "x" if "x" in others else others[0] if len(others) == 1 else None
    if source is None:
        raise DataError(
            f"which column of {where} is x?  Specify columns={{'x': ..., 'label': ...}}\n  its columns: {_list_columns(features)}"
        )
    return {"x": source, **({} if label is None else {"label": label})}


def _nesting_depth(feature: Any) -> int | None:
    """Return the nesting depth of a numeric feature: 0 a number, 1 a list, 2 a list of lists; None for anything else."""
    depth = 0
    while type(feature).__name__ in ("List", "LargeList", "Sequence") or isinstance(feature, list):
        feature = feature[0] if isinstance(feature, list) else feature.feature
        depth += 1
    if type(feature).__name__ == "Array2D":
        return 2 if depth == 0 else None
    dtype = getattr(feature, "dtype", "")
    plain = type(feature).__name__ == "Value" and dtype.startswith(("int", "uint", "float", "double", "bool"))
    return depth if plain and depth <= 2 else None


def _unsupported(column: str, feature: Any, advice: str) -> DataError:
    return DataError(f"column {column!r} is {feature}, which reprkit cannot read as a field\n  {advice}")


def _list_columns(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name!r} ({_type_name(feature)})" for name, feature in features.items())


def _type_name(feature: Any) -> str:
    text = type(feature).__name__
    return str(feature.dtype) if text == "Value" else text
