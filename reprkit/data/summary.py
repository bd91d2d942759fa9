"""What was read from a data set, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reprkit.data.formats.value_readers import class_names
from reprkit.data.signature import Field, Signature
from reprkit.utils.plain_table import html_table

_NAMES = 12  # names of classes that are shown


def summarize(signature: Signature, count: int, facts: Mapping[str, Any]) -> str:
    """Return ``x: image (h=8 w=8 c=1) in 0 to 1, 1,797 examples; label: 10 classes``.

    A data set that has more to say of a field states ``facts["columns"]``, which is returned instead.
    """
    if isinstance(facts.get("columns"), str):
        return str(facts["columns"])
    parts = [f"{name}: {_field(field)}" for name, field in signature.items()]
    return "; ".join([f"{parts[0]}, {count:,} examples", *parts[1:]])


def _field(field: Field) -> str:
    if field.kind == "label":
        return f"{field.vocab} classes"
    text = f"{field.kind} ({field.axes})"
    if field.discrete:
        return f"{text} of {field.vocab:,} symbols"
    if field.vocab == 2:
        return f"{text}, only 0 and 1"
    return text if field.range is None else f"{text} in {field.range[0]:g} to {field.range[1]:g}"


def dataset_html(name: str, count: int | None, signature: Signature, facts: Mapping[str, Any]) -> str:
    """Return a table of a data set's fields, for a notebook: kind, shape, range or symbols, and names of classes."""
    classes = class_names(facts, signature.label_fields())
    rows = []
    for key, field in signature.items():
        shape = " × ".join("any" if size is None else str(size) for size in field.shape) or "one number"
        span = "" if field.range is None else f"{field.range[0]:g} to {field.range[1]:g}"
        symbols = "" if field.vocab is None else f"{field.vocab:,} symbols"
        names = list(map(str, classes.get(key, ())))
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        rows.append([key, field.kind, shape, span or symbols, ", ".join(names[:_NAMES]) + more])
    size = "a stream of examples" if count is None else f"{count:,} examples"
    return html_table(["field", "kind", "shape", "values", "classes"], rows, f"{name}: {size}")
