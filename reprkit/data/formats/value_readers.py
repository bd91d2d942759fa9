"""Readers of the values of records and tables: infer a field, validate values and convert them to tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from reprkit.data.formats.text_files import BYTES_FORM, byte_tokens
from reprkit.data.signature import Field, Signature
from reprkit.errors import DataError

RecordKind = Literal["tokens", "vector", "sequence", "label"]


class ValueReader:
    """Base class of readers, which convert one value of a record to a tensor."""

    def field(self) -> Field:
        """Return the field for the signature, after all records were observed."""
        raise NotImplementedError

    def validate(self, value: Any) -> Any:
        """Return the value if it fits the field; DataError otherwise."""
        raise NotImplementedError

    def observe(self, value: Any) -> None:
        """Take account of a validated value."""

    def size(self, value: Any) -> int:
        """Return the value's length, where lengths vary."""
        raise NotImplementedError

    def __call__(self, value: Any) -> Tensor:
        """Convert the value to a tensor."""
        raise NotImplementedError


class TextReader(ValueReader):
    """Reader of texts as UTF-8 bytes."""

    def __init__(self, length: int | None) -> None:
        self.length = length

    def field(self) -> Field:
        """Return a tokens field of varying length."""
        return Field(kind="tokens", shape=(None,), vocab=256, form=BYTES_FORM)

    def validate(self, value: Any) -> Any:
        """Check that the value is a text, not empty and encodable."""
        if not isinstance(value, str):
            raise DataError(f"is {type_name(value)}, not a text")
        if not value:
            raise DataError("is an empty text")
        value.encode("utf-8")  # raises for a lone surrogate, which JSON can hold
        return value

    def size(self, value: Any) -> int:
        """Return the number of bytes."""
        count = len(value.encode("utf-8"))
        return count if self.length is None else min(count, self.length)

    def __call__(self, value: Any) -> Tensor:
        """Convert the value to a tensor."""
        return byte_tokens(value, self.length)


class TokensReader(ValueReader):
    """Reader of lists of integers from 0; without a declared vocabulary, it is inferred from the observed values."""

    def __init__(self, length: int | None, vocab: int | None) -> None:
        self.length, self.declared, self.vocab = length, vocab, vocab or 1

    def field(self) -> Field:
        """Return a tokens field, after all records were observed."""
        return Field(kind="tokens", shape=(None,), vocab=self.vocab)

    def validate(self, value: Any) -> Any:
        """Check that the value is a list of symbols of the vocabulary, at least one."""
        valid = isinstance(value, list) and value and set(map(type, value)) == {int} and min(value) >= 0
        if not valid:
            raise DataError(f"is {type_name(value)}, not a list of integers from 0")
        if self.declared is not None and max(value) >= self.declared:
            raise DataError(f"holds the symbol {max(value)}, and vocabs= declares {self.declared} symbols")
        return value

    def observe(self, value: Any) -> None:
        """Extend the vocabulary."""
        self.vocab = max(self.vocab, max(value) + 1)

    def size(self, value: Any) -> int:
        """Return the number of symbols."""
        return len(value[: self.length])

    def __call__(self, value: Any) -> Tensor:
        """Convert the value to a tensor."""
        return torch.tensor(value[: self.length], dtype=torch.int64)


class NumbersReader(ValueReader):
    """Reader of vectors (d,), or of sequences (t c) with ``steps``."""

    def __init__(self, width: int, steps: bool, length: int | None) -> None:
        self.width, self.steps, self.length = width, steps, length

    def field(self) -> Field:
        """Return a vector or sequence field of the given width."""
        if self.steps:
            return Field(kind="sequence", shape=(None, self.width))
        return Field(kind="vector", shape=(self.width,))

    def validate(self, value: Any) -> Any:
        """Return the numbers as float32 (d,) or (t c), if they are finite and as many as the width; an array is copied."""
        if isinstance(value, np.ndarray) and value.ndim == 1 + self.steps:
            self._check_width(value.shape[-1])
            numbers = value
        else:
            rows = value if self.steps and isinstance(value, list) and value else [value]
            for row in rows:
                if not isinstance(row, list) or not set(map(type, row)) <= {int, float}:
                    expected = "a list of lists of numbers" if self.steps else "a list of numbers"
                    raise DataError(f"is {type_name(value)}, not {expected}")
                self._check_width(len(row))
            numbers = np.asarray(value, dtype=np.float64)
        with np.errstate(over="ignore"):
            numbers = numbers.astype(np.float32)
        if not np.isfinite(numbers).all():
            raise DataError("has values that are not finite in float32")
        return numbers

    def _check_width(self, width: int) -> None:
        if width != self.width:
            raise DataError(f"has {width} numbers{' per step' if self.steps else ''}, not {self.width}")

    def size(self, value: Any) -> int:
        """Return the number of steps."""
        return len(value[: self.length])

    def __call__(self, value: Any) -> Tensor:
        """Convert the value to a tensor."""
        return torch.from_numpy(np.asarray(value[: self.length] if self.steps else value, dtype=np.float32))


class LabelReader(ValueReader):
    """Reader of labels: values of one type, numbered in sorted order or in the order of ``classes``."""

    def __init__(self, type_: type, classes: list[Any] | None) -> None:
        self.type, self.seen, self.classes = type_, set[Any](), classes
        self.allowed = None if classes is None else frozenset(classes)
        self.class_indices: dict[Any, int] = {}

    def field(self) -> Field:
        """Return a label field, after the classes were numbered."""
        names = tuple(map(str, self.class_indices))
        return Field(kind="label", shape=(), vocab=max(1, len(names)), classes=names)

    def validate(self, value: Any) -> Any:
        """Check that the value has the type of the others and is one of the classes."""
        if type(value) is not self.type:
            raise DataError(f"is {type_name(value)}, not {_NAMES[self.type]} like the others")
        if self.allowed is not None and value not in self.allowed:
            raise DataError(f"is {value!r}, which is not among the classes=")
        return value

    def observe(self, value: Any) -> None:
        """Collect the value."""
        self.seen.add(value)

    def number_classes(self) -> list[Any]:
        """Number the classes and return them in that order."""
        ordered = sorted(self.seen) if self.classes is None else self.classes
        self.class_indices = {value: index for index, value in enumerate(ordered)}
        return ordered

    def __call__(self, value: Any) -> Tensor:
        """Convert the value to a tensor."""
        return torch.tensor(self.class_indices[value])


def class_facts(classes: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return the entries for ``describe`` of each label field's classes: "classes" for "label", else "NAME_classes"."""
    return {_classes_key(name): values for name, values in classes.items()}


def class_names(signature: Signature, facts: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
    """Return the classes of each label field that states them, in the field (``Field.classes``) or in ``facts``.

    Where both state the same names, these are the values of ``facts``, which may be numbers.
    """
    found: dict[str, list[Any]] = {}
    for name in signature.label_fields():
        stated = list((facts or {}).get(_classes_key(name), ()))
        own = list(signature[name].classes)
        found[name] = stated if not own or list(map(str, stated)) == own else own
    return {name: classes for name, classes in found.items() if classes}


def _classes_key(name: str) -> str:
    return "classes" if name == "label" else f"{name}_classes"


_NAMES = {
    str: "a text", int: "an integer", bool: "true or false", float: "a number", list: "a list",
    dict: "an object", type(None): "null",
}  # fmt: skip


def type_name(value: Any) -> str:
    """Return the type of a JSON value in words."""
    inner = f" of {len(value)}" if isinstance(value, list) else ""
    return _NAMES.get(type(value), type(value).__name__) + inner


def make_reader(
    name: str,
    values: list[Any],
    *,
    kind: str | None = None,
    length: int | None = None,
    classes: list[Any] | None = None,
    vocab: int | None = None,
) -> ValueReader:
    """Create the reader of a field: as declared, else inferred from the majority of its first values.

    Raises:
        DataError: most of the values fit no field, or not the declared one.
    """
    if classes is not None:
        kind = "label"
    elif vocab is not None:
        kind = "tokens"
    kind = kind or _most_common(values, lambda value: _infer_kind(name, value))
    if kind == "label":
        return _label(name, values, classes)
    if kind == "tokens":
        is_text = vocab is None and _most_common(values, type) is str
        return TextReader(length) if is_text else TokensReader(length, vocab)
    if kind in ("vector", "sequence"):
        steps = kind == "sequence"
        width = _most_common(values, lambda value: _width(value, steps))
        if not width:
            raise DataError(
                f"field {name!r} is declared as a {kind}, and most of the first records hold none"
            )
        return NumbersReader(width, steps, length)
    raise DataError(
        f"field {name!r} is {_NAMES.get(_most_common(values, type), 'nothing')} in most records, which cannot be a field\n"
        "  supported: a text, a list of numbers, a list of lists of numbers; for a label a text, integer or boolean"
    )


def _label(name: str, values: list[Any], classes: list[Any] | None) -> LabelReader:
    types = {_most_common(values, type)} if classes is None else {type(value) for value in classes}
    type_ = next(iter(types), list)
    if len(types) != 1 or type_ not in (str, int, bool):
        actual = f"most often {_NAMES[type_]}" if classes is None else f"classes={classes!r}"
        raise DataError(f"labels are texts, integers or booleans; field {name!r} has {actual}")
    if classes is not None and len(set(classes)) < len(classes):
        raise DataError(f"classes of field {name!r}: a value occurs twice in {classes!r}")
    return LabelReader(type_, classes)


def _infer_kind(name: str, value: Any) -> str | None:
    if name == "label" or isinstance(value, int):
        return "label"
    if isinstance(value, str):
        return "tokens"
    if isinstance(value, list) and value:
        return "sequence" if isinstance(value[0], list) else "vector"
    return None


def _width(value: Any, steps: bool) -> int:
    row = value[0] if steps and isinstance(value, list) and value else value
    return len(row) if isinstance(row, list) else 0


def _most_common(values: list[Any], of: Callable[[Any], Any]) -> Any:
    return Counter(map(of, values)).most_common(1)[0][0]
