"""What was read from a data set, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reprkit.data.signature import Field, Signature


def summarize(signature: Signature, count: int | None, facts: Mapping[str, Any]) -> str:
    """Return ``x: image (h=8 w=8 c=1) in 0 to 1, 1,797 examples; label: 10 classes``.

    A data set that has more to say of a field states ``facts["columns"]``, which is returned instead.  ``count`` is None for a
    stream.
    """
    if isinstance(facts.get("columns"), str):
        return str(facts["columns"])
    parts = [f"{name}: {_field(field)}" for name, field in signature.items()]
    examples = "a stream" if count is None else f"{count:,} examples"
    return "; ".join([f"{parts[0]}, {examples}", *parts[1:]])


def _field(field: Field) -> str:
    if field.kind == "label":
        return f"{field.vocab} classes"
    text = f"{field.kind} ({field.axes})"
    if field.discrete:
        return f"{text} of {field.vocab:,} symbols"
    if field.vocab == 2:
        return f"{text}, only 0 and 1"
    return text if field.range is None else f"{text} in {field.range[0]:g} to {field.range[1]:g}"
