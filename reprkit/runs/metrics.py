"""Nested metrics as JSON (``to_json_value``) and as numbers by name (``flatten_metrics``).  The only place that does either; torch-free.

``results.json``, ``metrics.jsonl``, trackers, the report, the model card and the commands all go through here, so that they
show the same numbers.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

from reprkit.errors import DataError

FIGURES = "figures"  # the entry under which an evaluator returns what it drew; never a metric
_LEFT_OUT = object()


def to_python_scalar(value: Any) -> Any:
    """A real number, or a NumPy or torch value of one element, as Python's own; any other value as it is."""
    counted = getattr(value, "numel", None)  # torch, where ``size`` is a method
    size = counted() if callable(counted) else getattr(value, "size", None)
    if isinstance(size, int) and size == 1 and callable(getattr(value, "item", None)):
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def to_json_value(value: Any) -> Any:
    """What JSON can hold of a metric or of nested metrics.

    Kept are real numbers, texts, booleans, None and mappings of these; NumPy and torch values of one element are numbers.  What
    is not finite becomes None, since JSON has no word for it.  Left out of mappings are figures, arrays of more elements, lists,
    complex numbers and whatever else there is; such a value by itself gives None.
    """
    kept = _plain(value)
    return None if kept is _LEFT_OUT else kept


def iterate_leaves(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every value of nested metrics as it is, by its names joined with dots; figures are left out."""
    for name, value in metrics.items():
        if name == FIGURES:
            continue
        if isinstance(value, Mapping):
            for path, inner in iterate_leaves(value):
                yield f"{name}.{path}", inner
        else:
            yield str(name), value


def flatten_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Every number of nested metrics by its names joined with dots: ``{"knn.accuracy": 0.97}``.

    The numbers are Python's own, whole ones stay ``int``.  NaN stands for what was measured and is not finite (infinite, NaN,
    or None, which is how JSON holds these), so that metrics give the same numbers before they are written and after they are
    read.  Texts and booleans are no numbers, and are left out with all that ``to_json_value`` leaves out.

    Raises:
        DataError: two numbers of one name, such as of ``{"a.b": 1, "a": {"b": 2}}``.
    """
    found: dict[str, float] = {}
    for path, value in iterate_leaves(metrics):
        kept = _plain(value)
        if kept is _LEFT_OUT or isinstance(kept, bool | str):
            continue
        if path in found:
            raise DataError(f"two metrics are called {path!r} once names are joined with dots: rename one")
        found[path] = math.nan if kept is None else kept
    return found


def finite_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of ``flatten_metrics`` that are finite: what curves and trackers can draw."""
    return {name: value for name, value in flatten_metrics(metrics).items() if math.isfinite(value)}


def format_number(value: float) -> str:
    """A number of ``flatten_metrics`` with six digits, for a table; an en dash for one that is not finite."""
    return f"{value:.6g}" if math.isfinite(value) else "–"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        kept = {str(name): _plain(each) for name, each in value.items() if name != FIGURES}
        return {name: each for name, each in kept.items() if each is not _LEFT_OUT}
    value = to_python_scalar(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | str | int | float) else _LEFT_OUT
