"""Check the structure of parsed JSON, or of other plain data, against a description, as in ``{"stages": Each({"step": int})}``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TYPES: dict[Any, tuple[type | tuple[type, ...], str]] = {
    str: (str, "a text"),
    int: (int, "an integer"),  # not true or false
    float: ((int, float), "a number"),
    bool: (bool, "true or false"),
    dict: (dict, "an object"),
    list: (list, "a list"),
}


@dataclass(frozen=True)
class Each:
    """An object in which every value has the same shape."""

    shape: Any


@dataclass(frozen=True)
class Items:
    """A list in which every item has the same shape; ``length`` items if it is given."""

    shape: Any
    length: int | None = None


@dataclass(frozen=True)
class Either:
    """One of two shapes, such as an entry's in an earlier version and in this one."""

    first: Any
    second: Any


@dataclass(frozen=True)
class Needed:
    """An entry that may be neither missing nor null."""

    shape: Any


def check_shape(value: Any, shape: Any, where: str = "") -> None:
    """Check parsed JSON.

    Args:
        value: the JSON.
        shape: a type (``float`` includes integers, ``object`` is anything); a dict, name -> shape, where other names hold anything;
            ``Each``, ``Items`` or ``Either``.  Every entry may be missing or null unless it is ``Needed``.
        where: the position of the value, for the message.

    Raises:
        ValueError: an entry has another shape; the message names its position.
    """
    if isinstance(shape, Needed):
        if value is None:
            raise ValueError(f"{where or 'it'} is missing")
        shape = shape.shape
    if value is None or shape is object:
        return
    if isinstance(shape, Either):
        try:
            check_shape(value, shape.first, where)
        except ValueError:
            check_shape(value, shape.second, where)
    elif isinstance(shape, Mapping | Each):
        _require(isinstance(value, dict), where, "an object")
        entries = value if isinstance(shape, Each) else shape
        for name in entries:
            inner = shape.shape if isinstance(shape, Each) else shape[name]
            check_shape(value.get(name), inner, _join(where, str(name)))
    elif isinstance(shape, Items):
        _require(isinstance(value, list), where, "a list")
        _require(shape.length in (None, len(value)), where, f"a list of {shape.length}")
        for index, item in enumerate(value):
            check_shape(item, shape.shape, f"{where}[{index}]")
    else:
        types, what = _TYPES[shape]
        _require(isinstance(value, types) and (shape is bool or not isinstance(value, bool)), where, what)


def _require(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise ValueError(f"{where or 'it'} must be {what}")


def _join(where: str, name: str) -> str:
    shown = name if name.isidentifier() and name.isascii() else ascii(name[:60])
    return f"{where}.{shown}" if where else shown
