"""Nested metrics as JSON (``to_json_value``) and as numbers by name (``flatten_metrics``).  Does not import torch.

``results.json``, ``metrics.jsonl``, trackers, the report, the model card and the commands all use these functions, so that they
show the same numbers.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

from reprkit.errors import DataError

_FIGURES_KEY = "figures"  # the key under which an evaluator returns its figures; never a metric
_OMITTED = object()


def to_python_scalar(value: Any) -> Any:
    """Convert a real number, or a NumPy or torch value of one element, to a Python scalar; return any other value as is."""
    numel = getattr(value, "numel", None)  # torch, where ``size`` is a method
    size = numel() if callable(numel) else getattr(value, "size", None)
    if isinstance(size, int) and size == 1 and callable(getattr(value, "item", None)):
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def to_json_value(value: Any) -> Any:
    """Convert a metric or nested metrics to what JSON can represent.

    Real numbers, strings, booleans, None and mappings of these are converted; NumPy and torch values of one element count as
    numbers.  Non-finite numbers become None, since JSON cannot represent them.  Figures, arrays of more elements, lists, complex
    numbers and all other values are omitted from mappings; such a value by itself gives None.
    """
    converted = _convert(value)
    return None if converted is _OMITTED else converted


def iterate_leaves(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Iterate over (name, value) of nested metrics, with nested names joined by dots; figures are omitted."""
    for name, value in metrics.items():
        if name == _FIGURES_KEY:
            continue
        if isinstance(value, Mapping):
            for path, leaf in iterate_leaves(value):
                yield f"{name}.{path}", leaf
        else:
            yield str(name), value


def flatten_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Flatten nested metrics to numbers by name, with nested names joined by dots: ``{"knn.accuracy": 0.97}``.

    The numbers are Python scalars; integers stay ``int``.  Measured values that are not finite (infinite, NaN, or None, which
    represents them in JSON) become NaN, so that metrics give the same numbers before writing and after reading.  Strings and
    booleans are omitted, as is all that ``to_json_value`` omits.

    Raises:
        DataError: two numbers have the same name, as in ``{"a.b": 1, "a": {"b": 2}}``.
    """
    flat: dict[str, float] = {}
    for path, value in iterate_leaves(metrics):
        converted = _convert(value)
        if converted is _OMITTED or isinstance(converted, bool | str):
            continue
        if path in flat:
            raise DataError(f"two metrics are called {path!r} once names are joined with dots: rename one")
        flat[path] = math.nan if converted is None else converted
    return flat


def finite_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of ``flatten_metrics``, which curves and trackers can draw."""
    return {name: value for name, value in flatten_metrics(metrics).items() if math.isfinite(value)}


def format_significant(value: float) -> str:
    """Format a number with six significant digits, for a card or a command; an en dash if it is not finite.

    A page rounds to what can be compared at a glance: ``reprkit.reporting.page.format_number``.
    """
    return f"{value:.6g}" if math.isfinite(value) else "–"


def _convert(value: Any) -> Any:
    if isinstance(value, Mapping):
        converted = {str(name): _convert(item) for name, item in value.items() if name != _FIGURES_KEY}
        return {name: item for name, item in converted.items() if item is not _OMITTED}
    value = to_python_scalar(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, int) and abs(value) >= 2**63:  # more than JSON readers and charts take
        return None
    return value if value is None or isinstance(value, bool | str | int | float) else _OMITTED
