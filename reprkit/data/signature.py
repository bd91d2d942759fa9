"""Signature of a data set: kind, shape, range and vocabulary of each field, as plain JSON."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from reprkit.errors import BuildError, DataError, nearest

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["image", "map", "vector", "sequence", "tokens", "label"]

_MAX_SYMBOLS, _MAX_CLASSES = 2**26, 2**31  # of a vocabulary; larger numbers are ids or measurements

# Axes of each kind, in the order of Field.shape.
LAYOUTS: dict[str, tuple[str, ...]] = {
    "image": ("h", "w", "c"),
    "map": ("h", "w"),
    "vector": ("d",),
    "sequence": ("t", "c"),
    "tokens": ("t",),
    "label": (),
}


@dataclass(frozen=True)
class Column:
    """One column of a table that a vector field holds: a number, or a category as a one-hot vector.

    Attributes:
        name: its name in the table.
        kind: "number", one element in the table's own units, or "category", one element for each of ``classes``.
        mean: of a number; encoders subtract it and outputs start there.
        std: standard deviation of a number, in the same way.
        classes: values of a category, in the order of its elements; at least two.
        unit: of a number, such as "days since 1970-01-01" of a date; "" where the table states none.

    Raises:
        DataError: an unknown kind, no positive ``std``, or classes that are too few, repeated, or given for a number.
    """

    name: str
    kind: Literal["number", "category"] = "number"
    mean: float = 0.0
    std: float = 1.0
    classes: tuple[str, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        """Check the column."""
        where = f"column {self.name!r}"
        if self.kind not in ("number", "category"):
            raise DataError(f"{where}: a column is a number or a category, not {self.kind!r}")
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise DataError(
                f"{where}: the mean must be finite and std above 0, not mean={self.mean}, std={self.std}"
            )
        object.__setattr__(self, "classes", tuple(str(each) for each in self.classes))
        if self.kind == "number" and self.classes:
            raise DataError(f"{where}: a number has no classes; write kind='category'")
        if self.kind == "category" and (len(self.classes) < 2 or len(set(self.classes)) < len(self.classes)):
            raise DataError(f"{where}: a category needs two or more different classes, not {self.classes}")

    @property
    def width(self) -> int:
        """Number of elements of the vector."""
        return max(1, len(self.classes))


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a batch.

    Attributes:
        kind: "image" (h w c), "map" (h w) int64 symbols on a grid (segmentations, color bins, codes), "vector" (d,),
            "sequence" (t c) real frames, "tokens" (t,) int64, "label" () int64, the number of a class.
        shape: of one example, channels last; None for a varying length (then ``NAME_mask`` marks the valid
            steps).
        range: lowest and highest value, where the data guarantees one.
        vocab: number of symbols: of tokens and maps, of label classes, and 2 for real fields that hold only 0 and 1.
            Data holds tokens 0 to vocab - 1; the id ``vocab`` itself is the mask symbol that mask corruptions
            insert, so an encoder of tokens embeds vocab + 1 symbols.
        form: how the values were computed from raw data, as a reference ("log-mel(bands=80)"), so that a model's
            input can be computed from new data; None where the values are the raw data.
        columns: of a vector that holds a table's rows: its columns, in the order of the elements.  A batch may then hold
            ``NAME_mask`` (b d), False at the elements of missing values.  Of a sequence: its channels, numbers with a mean and
            standard deviation each.
        counts: of tokens and labels, how often each symbol occurs in the training data, so that a part can sample symbols by their
            frequency (``Dataset.count_symbols``); None where it was not counted.
        classes: of a label, the names of its classes in the order of their numbers; () where the data states none.  Fields that
            differ in them alone are equal: data sets with the same classes in another order are matched by name.

    Raises:
        DataError: an unknown kind, columns that do not fill the vector, a shape that does not fit the kind, an empty range, tokens
            without a vocabulary, names of classes that are not one a class.
    """

    kind: Kind
    shape: tuple[int | None, ...]
    range: tuple[float, float] | None = None
    vocab: int | None = None
    form: str | None = None
    columns: tuple[Column, ...] = ()
    counts: tuple[int, ...] | None = field(default=None, repr=False)
    classes: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        """Validate the field."""
        if self.kind not in LAYOUTS:
            raise DataError(
                f"no kind of field {self.kind!r}.{nearest(str(self.kind), LAYOUTS)}\n"
                f"  known: {', '.join(LAYOUTS)}"
            )
        layout = LAYOUTS[self.kind]
        if len(self.shape) != len(layout):
            raise DataError(
                f"the shape of one example of a {self.kind} field is ({' '.join(layout)}), not {self.shape}"
            )
        varies = [axis for axis, size in zip(layout, self.shape, strict=True) if size is None]
        if any(size is not None and size < 1 for size in self.shape) or set(varies) - {"t"}:
            raise DataError(
                f"a shape holds sizes from 1, or None for a varying t, not {self.shape} ({self.kind})"
            )
        if self.range is not None and not self.range[0] < self.range[1]:
            raise DataError(f"a range is (lowest, highest), not {self.range}")
        if self.vocab is not None and self.vocab < 1:
            raise DataError(f"a vocabulary has at least 1 symbol, not {self.vocab}")
        most = _MAX_CLASSES if self.kind == "label" else _MAX_SYMBOLS
        if self.vocab is not None and self.vocab > most:
            raise DataError(
                f"a vocabulary of {self.kind} data has at most {most:,} symbols, not {self.vocab:,}: each gets weights\n"
                "  map large numbers, such as ids, to 0, 1, 2, ...; numbers that measure something are a vector, not symbols"
            )
        if self.kind in ("tokens", "map") and self.vocab is None:
            raise DataError("tokens and maps need vocab=, the number of symbols")
        if self.kind in ("image", "vector", "sequence") and self.vocab not in (None, 2):
            raise DataError(
                f"vocab of a real field ({self.kind}) must be 2 (only 0 and 1) or None, not {self.vocab}"
            )
        if self.columns:
            self._check_columns()
        if self.classes:
            object.__setattr__(self, "classes", tuple(map(str, self.classes)))
            if (
                self.kind != "label"
                or len(self.classes) != self.vocab
                or len(set(self.classes)) != self.vocab
            ):
                raise DataError(
                    f"classes are a different name for each of the {self.vocab} classes of a label, not {len(self.classes)} of "
                    f"{self.kind} data"
                )
        if self.counts is not None:
            object.__setattr__(self, "counts", tuple(self.counts))
            if not self.discrete or len(self.counts) != self.vocab or min(self.counts) < 0:
                raise DataError(
                    f"counts are one whole number from 0 for each of {self.vocab} symbols of tokens or labels, not "
                    f"{len(self.counts)} of {self.kind} data"
                )

    def _check_columns(self) -> None:
        if self.kind not in ("vector", "sequence") or self.range is not None or self.vocab is not None:
            raise DataError(
                f"columns describe a vector or a sequence without range= and vocab=, not {self.kind} data with these"
            )
        categories = [column.name for column in self.columns if column.kind == "category"]
        if self.kind == "sequence" and categories:
            raise DataError(f"the channels of a sequence are numbers, and {categories[0]!r} is a category")
        width = sum(column.width for column in self.columns)
        if width != self.shape[-1]:
            raise DataError(
                f"the columns have {width} elements (1 for a number, 1 for each class), and the {self.kind} {self.shape[-1]}"
            )
        names = [column.name for column in self.columns]
        if len(set(names)) < len(names):
            raise DataError(f"two columns have the same name: {', '.join(names)}")

    @property
    def column_slices(self) -> list[tuple[Column, slice]]:
        """The columns, each with its elements of the vector."""
        ends = list(itertools.accumulate(column.width for column in self.columns))
        return [
            (column, slice(end - column.width, end)) for column, end in zip(self.columns, ends, strict=True)
        ]

    @property
    def axes(self) -> str:
        """Shape with the names of its axes: ``h=8 w=8 c=1``."""
        return " ".join(
            f"{axis}={size or 'any'}" for axis, size in zip(LAYOUTS[self.kind], self.shape, strict=True)
        )

    @property
    def discrete(self) -> bool:
        """Whether the values are int64 symbols (tokens, map, label) rather than real numbers."""
        return self.kind in ("tokens", "map", "label")

    @property
    def planar(self) -> bool:
        """Whether the values lie on a grid of rows and columns (image, map)."""
        return self.kind in ("image", "map")

    @property
    def space(self) -> tuple[int | None, ...]:
        """Sizes of the axes that tokens divide: (h, w), (t,), or (1,) for a vector."""
        if self.planar:
            return self.shape[:2]
        return self.shape[:1] if self.kind in ("sequence", "tokens") else (1,)

    @property
    def steps(self) -> int | None:
        """Number of tokens where the values are read as a sequence: rows of an image, cells of a map, time steps; None: varies."""
        return int(self.shape[0] or 0) * int(self.shape[1] or 0) if self.kind == "map" else self.space[0]

    @property
    def channels(self) -> int:
        """Number of values per position: c of an image or sequence, d of a vector, 1 for symbols."""
        return 1 if self.discrete else int(self.shape[-1] or 1)

    @property
    def likelihood(self) -> str:
        """Default likelihood: categorical for symbols, bernoulli for 0/1, mixed for tables with categories, else gaussian."""
        if self.discrete:
            return "categorical"
        if any(column.kind == "category" for column in self.columns):
            return "mixed"
        return "bernoulli" if self.vocab == 2 else "gaussian"


class Signature(Mapping[str, Field]):
    """Mapping of field name to ``Field``, in the data set's order; ``to_json`` and ``from_json`` convert it."""

    def __init__(self, fields: Mapping[str, Field]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> Field:
        """Return a field; BuildError, with the nearest name, if there is none of that name."""
        if name not in self._fields:
            raise BuildError(
                f"the data has no field {name!r}.{nearest(name, self._fields)}\n"
                f"  its fields: {', '.join(self._fields)}"
            )
        return self._fields[name]

    def label_fields(self) -> list[str]:
        """Return the names of the fields of kind "label", in order."""
        return [name for name, field in self.items() if field.kind == "label"]

    def varying_fields(self) -> list[str]:
        """Return the names of the fields whose length varies, in order."""
        return [name for name, field in self.items() if None in field.shape]

    def __contains__(self, name: object) -> bool:
        """Return whether the data has the field."""
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the fields."""
        return iter(self._fields)

    def __len__(self) -> int:
        """Return the number of fields."""
        return len(self._fields)

    def __repr__(self) -> str:
        """Return the fields, readable."""
        return f"Signature({self._fields!r})"

    def reading(self, name: str) -> Signature:
        """Return the signature with field ``name`` renamed to ``x``, as a part that reads or writes this field sees it."""
        others = {key: value for key, value in self._fields.items() if key not in (name, "x")}
        return Signature({"x": self[name], **others})

    def any_length(self) -> Signature:
        """Return the signature with sequences (t c) and tokens (t,) of any length."""
        return Signature(
            {
                name: replace(field, shape=(None, *field.shape[1:]))
                if LAYOUTS[field.kind][:1] == ("t",)
                else field
                for name, field in self._fields.items()
            }
        )

    def sized_as(self, batch: Mapping[str, Any]) -> Signature:
        """Return the signature with images (h w c) of the height and width that they have in a batch (b h w c)."""
        fields = {}
        for name, known in self._fields.items():
            space = getattr(batch.get(name), "shape", ())[1:3]
            sized = known.kind == "image" and len(space) == 2 and min(space) > 0
            fields[name] = replace(known, shape=(*space, *known.shape[2:])) if sized else known
        return Signature(fields)

    def to_json(self) -> dict[str, Any]:
        """Return the signature as plain dicts, lists and numbers."""
        return {name: _field_to_json(value) for name, value in self._fields.items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Signature:
        """Create a signature from the output of ``to_json``."""
        pairs = {}
        for name, value in record.items():
            span = value.get("range")
            pairs[name] = Field(
                kind=value["kind"],
                shape=tuple(value["shape"]),
                range=None if span is None else (span[0], span[1]),
                vocab=value.get("vocab"),
                counts=None if value.get("counts") is None else tuple(value["counts"]),
                form=value.get("form"),
                classes=tuple(value.get("classes", ())),
                columns=tuple(
                    Column(**{**column, "classes": tuple(column.get("classes", ()))})
                    for column in value.get("columns", ())
                ),
            )
        return cls(pairs)

    def example(self, size: int = 1, length: int = 4) -> dict[str, Tensor]:
        """Return a blank batch that fits the signature; varying lengths become ``length``.

        All values are zero, or the closest value of the field's range; categories of a table hold their first class.
        """
        import torch

        batch = {}
        for name, value in self._fields.items():
            shape = [size, *(length if n is None else n for n in value.shape)]
            low, high = value.range or (0.0, 0.0)
            blank = 0 if value.discrete else min(max(0.0, low), high)
            batch[name] = torch.full(shape, blank, dtype=torch.int64 if value.discrete else torch.float32)
            for column, elements in value.column_slices:
                if column.kind == "category":
                    batch[name][:, elements.start] = 1
            if None in value.shape:
                batch[f"{name}_mask"] = torch.ones(shape[:2], dtype=torch.bool)
        return batch


def _field_to_json(field: Field) -> dict[str, Any]:
    """Return a field as JSON; form, columns, counts and classes are left out where there are none, as in earlier versions."""
    record = asdict(field)
    if record["counts"] is None:
        del record["counts"]
    else:
        record["counts"] = list(record["counts"])
    if record["form"] is None:
        del record["form"]
    if record["classes"]:
        record["classes"] = list(record["classes"])
    else:
        del record["classes"]
    if not record["columns"]:
        del record["columns"]
    else:
        record["columns"] = [
            {
                key: list(value) if key == "classes" else value
                for key, value in column.items()
                if key != "unit" or value
            }
            for column in record["columns"]
        ]
    return record
