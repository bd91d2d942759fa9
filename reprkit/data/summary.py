"""What was read from a data set, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reprkit.data.folders import describe_rule
from reprkit.data.formats.value_readers import class_names
from reprkit.data.signature import Field, Signature
from reprkit.errors import printable
from reprkit.utils.plain_table import html_table

_NAMES = 12  # names of classes that are shown


def summarize(signature: Signature, count: int | None, facts: Mapping[str, Any]) -> str:
    """Return ``x: image (h=8 w=8 c=1) in 0 to 1, 1,797 examples; label: 10 classes``.

    A data set that has more to say of a field states ``facts["columns"]``, which is returned instead.  ``count`` is None for a
    stream.
    """
    if isinstance(facts.get("columns"), str):
        return str(facts["columns"])
    parts = [f"{name}: {_field(field)}" for name, field in signature.items()]
    examples = "a stream" if count is None else f"{count:,} examples"
    return printable("; ".join([f"{parts[0]}, {examples}", *parts[1:], *_left_out(facts)]))


def _left_out(facts: Mapping[str, Any]) -> list[str]:
    """Return what is not in the data, and what was reduced: ``2 unreadable; ignored: 3 .csv, 1 hidden``."""
    texts = list[str]()
    if isinstance(count := facts.get("skipped_count"), int) and count:
        first: dict[str, str] = next(iter(facts.get("skipped") or []), {})
        texts.append(f"unreadable: {count:,}" + (f" ({first['name']}: {first['why']})" if first else ""))
    if isinstance(rules := facts.get("ignored"), Mapping) and rules:
        listed = [f"{entry['count']:,} {describe_rule(rule)}" for rule, entry in list(rules.items())[:5]]
        texts.append(f"ignored: {', '.join([*listed, *(['...'] if len(rules) > 5 else [])])}")
    if count := facts.get("short_count"):
        texts.append(f"too short: {count:,}")
    if count := facts.get("reduced_count"):
        texts.append(
            f"{count:,} pictures of 16 bits are read as 8 bits (range=(0, 65535) keeps their levels)"
        )
    if count := facts.get("antiphase_count"):
        texts.append(f"{count:,} with channels in opposite phase, of which one is read")
    return texts


def _field(field: Field) -> str:
    if field.kind == "label":
        return f"{field.vocab} classes"
    text = f"{field.kind} ({field.axes})"
    if field.form is not None and field.kind in ("sequence", "image"):
        text += f", {field.form}"
    if field.discrete:
        return f"{text} of {field.vocab:,} symbols"
    if field.vocab == 2:
        return f"{text}, only 0 and 1"
    return text if field.range is None else f"{text} in {field.range[0]:g} to {field.range[1]:g}"


def dataset_html(name: str, count: int | None, signature: Signature, facts: Mapping[str, Any]) -> str:
    """Return a table of a data set's fields, for a notebook: kind, shape, range or symbols, and names of classes."""
    classes = class_names(signature, facts)
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
