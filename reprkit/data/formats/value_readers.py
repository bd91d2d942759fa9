"""Values of JSON records: what a field is, whether a value fits, and its tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from reprkit.data.formats.text_files import byte_tokens
from reprkit.data.signature import Field
from reprkit.errors import DataError

RecordKind = Literal["tokens", "vector", "sequence", "label"]


class ValueReader:
    """From one value of a record to a tensor."""

    def field(self) -> Field:
        """What the signature says, once all records were seen."""
        raise NotImplementedError

    def validate(self, value: Any) -> Any:
        """The value, if it is what the others are; DataError otherwise."""
        raise NotImplementedError

    def observe(self, value: Any) -> None:
        """See the value of a record that stays."""

    def size(self, value: Any) -> int:
        """Its length, where that varies."""
        raise NotImplementedError

    def __call__(self, value: Any) -> Tensor:
        """The tensor."""
        raise NotImplementedError


class TextReader(ValueReader):
    """UTF-8 bytes of a text."""

    def __init__(self, length: int | None) -> None:
        self.length = length

    def field(self) -> Field:
        """Tokens of varying length."""
        return Field(kind="tokens", shape=(None,), vocab=256)

    def validate(self, value: Any) -> Any:
        """A text with something in it."""
        if not isinstance(value, str):
            raise DataError(f"is {type_name(value)}, not a text")
        if not value:
            raise DataError("is an empty text")
        value.encode("utf-8")  # a lone surrogate, which JSON can write, is no text
        return value

    def size(self, value: Any) -> int:
        """Bytes."""
        count = len(value.encode("utf-8"))
        return count if self.length is None else min(count, self.length)

    def __call__(self, value: Any) -> Tensor:
        """The tensor."""
        return byte_tokens(value, self.length)


class TokensReader(ValueReader):
    """A list of whole numbers from 0; without a stated vocabulary it grows by what is seen."""

    def __init__(self, length: int | None, vocab: int | None) -> None:
        self.length, self.stated, self.vocab = length, vocab, vocab or 1

    def field(self) -> Field:
        """What the signature says, once all records were seen."""
        return Field(kind="tokens", shape=(None,), vocab=self.vocab)

    def validate(self, value: Any) -> Any:
        """Symbols of the vocabulary, at least one."""
        good = isinstance(value, list) and value and all(type(each) is int and each >= 0 for each in value)
        if not good:
            raise DataError(f"is {type_name(value)}, not a list of whole numbers from 0")
        if self.stated is not None and max(value) >= self.stated:
            raise DataError(f"holds the symbol {max(value)}, and vocabs= states {self.stated} symbols")
        return value

    def observe(self, value: Any) -> None:
        """Grow the vocabulary."""
        self.vocab = max(self.vocab, max(value) + 1)

    def size(self, value: Any) -> int:
        """Symbols."""
        return len(value[: self.length])

    def __call__(self, value: Any) -> Tensor:
        """The tensor."""
        return torch.tensor(value[: self.length], dtype=torch.int64)


class NumbersReader(ValueReader):
    """A vector (d,), or a sequence (t c) where ``steps``."""

    def __init__(self, width: int, steps: bool, length: int | None) -> None:
        self.width, self.steps, self.length = width, steps, length

    def field(self) -> Field:
        """Of the width that was stated."""
        if self.steps:
            return Field(kind="sequence", shape=(None, self.width))
        return Field(kind="vector", shape=(self.width,))

    def validate(self, value: Any) -> Any:
        """Finite numbers, as many as the width."""
        rows = value if self.steps and isinstance(value, list) and value else [value]
        for row in rows:
            if not isinstance(row, list) or not all(type(each) in (int, float) for each in row):
                wanted = "a list of lists of numbers" if self.steps else "a list of numbers"
                raise DataError(f"is {type_name(value)}, not {wanted}")
            if len(row) != self.width:
                raise DataError(f"has {len(row)} numbers{' a step' if self.steps else ''}, not {self.width}")
        with np.errstate(over="ignore"):
            if not np.isfinite(np.asarray(rows, dtype=np.float64).astype(np.float32)).all():
                raise DataError("has values that are not finite in float32")
        return value

    def size(self, value: Any) -> int:
        """Steps."""
        return len(value[: self.length])

    def __call__(self, value: Any) -> Tensor:
        """The tensor."""
        return torch.tensor(value[: self.length] if self.steps else value, dtype=torch.float32)


class LabelReader(ValueReader):
    """Values of one type, numbered in their sorted order or in that of ``known``."""

    def __init__(self, type_: type, known: list[Any] | None) -> None:
        self.type, self.seen, self.classes = type_, set[Any](), known
        self.allowed = None if known is None else frozenset(known)
        self.class_indices: dict[Any, int] = {}

    def field(self) -> Field:
        """What the signature says, once all records were seen."""
        return Field(kind="label", shape=(), vocab=max(1, len(self.class_indices)))

    def validate(self, value: Any) -> Any:
        """A value of the type that the others have."""
        if type(value) is not self.type:
            raise DataError(f"is {type_name(value)}, not {_NAMES[self.type]} as the others")
        if self.allowed is not None and value not in self.allowed:
            raise DataError(f"is {value!r}, which is not among the classes=")
        return value

    def observe(self, value: Any) -> None:
        """Remember the value."""
        self.seen.add(value)

    def number_classes(self) -> list[Any]:
        """Number the values; which they are, in that order."""
        ordered = sorted(self.seen) if self.classes is None else self.classes
        self.class_indices = {value: place for place, value in enumerate(ordered)}
        return ordered

    def __call__(self, value: Any) -> Tensor:
        """The tensor."""
        return torch.tensor(self.class_indices[value])


_NAMES = {
    str: "a text", int: "a whole number", bool: "true or false", float: "a number", list: "a list",
    dict: "an object", type(None): "null",
}  # fmt: skip


def type_name(value: Any) -> str:
    """What a JSON value is, in words."""
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
    """What reads a field: as stated, else by what most of its first values are.

    Raises:
        DataError: most of the values can be no field, or not the one stated.
    """
    if classes is not None:
        kind = "label"
    elif vocab is not None:
        kind = "tokens"
    kind = kind or _most(values, lambda value: _guess(name, value))
    if kind == "label":
        return _label(name, values, classes)
    if kind == "tokens":
        is_text = vocab is None and _most(values, type) is str
        return TextReader(length) if is_text else TokensReader(length, vocab)
    if kind in ("vector", "sequence"):
        steps = kind == "sequence"
        width = _most(values, lambda value: _width(value, steps))
        if not width:
            raise DataError(f"field {name!r} shall be a {kind}, and most of the first records hold no such")
        return NumbersReader(width, steps, length)
    raise DataError(
        f"field {name!r} is {_NAMES.get(_most(values, type), 'nothing')} in most records, which is no field\n"
        "  a text, a list of numbers, a list of lists of numbers, or for a label a text, whole number or boolean"
    )


def _label(name: str, values: list[Any], classes: list[Any] | None) -> LabelReader:
    types = {_most(values, type)} if classes is None else {type(each) for each in classes}
    type_ = next(iter(types), list)
    if len(types) != 1 or type_ not in (str, int, bool):
        told = f"most often {_NAMES[type_]}" if classes is None else f"classes={classes!r}"
        raise DataError(f"labels are texts, whole numbers or booleans; field {name!r} has {told}")
    if classes is not None and len(set(classes)) < len(classes):
        raise DataError(f"classes of field {name!r}: a value stands there twice in {classes!r}")
    return LabelReader(type_, classes)


def _guess(name: str, value: Any) -> str | None:
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


def _most(values: list[Any], of: Callable[[Any], Any]) -> Any:
    return Counter(map(of, values)).most_common(1)[0][0]
