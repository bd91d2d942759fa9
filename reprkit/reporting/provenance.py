"""The sections on how results were obtained: parts, data, command and versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reprkit.reporting.page import Block, Listing, Section, Table
from reprkit.reporting.run_history import RunHistory, describe_run
from reprkit.runs.metrics import to_python_scalar
from reprkit.runs.reader import describe_field
from reprkit.runs.results import Results

# Headings of the entries of a data set's record.
_HEADINGS = {
    "size": "examples",
    "of": "of",
    "seed": "split's seed",
    "skipped_count": "left out",
    "ignored_count": "ignored",
}
_CLASSES = 20  # names of classes that are shown
_FIELDS = 4  # fields that the line below the title names
_LONG = 300  # characters of a text, such as an alphabet, above which it is not shown


def parts_section(runs: Mapping[str, Results]) -> Section | None:
    """Parts and parameter counts of each model: one row per part for one run, one row per run for several."""
    described = {name: results.about for name, results in runs.items() if results.about.get("parts")}
    if not described:
        return None
    if len(described) == 1:
        about = next(iter(described.values()))
        rows = {
            role: [part["reference"], part.get("width") or "", part["parameters"]]
            for role, part in about["parts"].items()
        }
        rows["whole model"] = ["", "", about.get("parameters")]
        return Section(
            "Parts and parameters", [Table(["reference", "width", "parameters"], rows, corner="part")]
        )
    roles = list(dict.fromkeys(role for about in described.values() for role in about["parts"]))
    roles = [role for role in roles if role != "adapters"]
    rows = {
        name: [*(_short(about["parts"].get(role)) for role in roles), about.get("parameters")]
        for name, about in described.items()
    }
    return Section("Parts and parameters", [Table([*roles, "parameters"], rows, sortable=True)])


def _short(part: Mapping[str, Any] | None) -> str | None:
    return None if part is None else part["reference"].removeprefix("reprkit/")


def data_section(runs: Mapping[str, Results], folders: Mapping[str, RunHistory]) -> Section | None:
    """The data sets, their signatures, and the files that could not be read."""
    found = [results.about.get("data") for results in runs.values()]
    found += [run.record.get("data") for run in folders.values()]
    records = [data for data in found if isinstance(data, dict) and isinstance(data.get("signature"), dict)]
    if not records:
        return None
    sets = {data["name"]: data for data in reversed(records) if isinstance(data.get("name"), str)}
    columns = list(dict.fromkeys(k for data in sets.values() for k, v in data.items() if _is_shown(k, v)))
    blocks: list[Block] = []
    if sets:
        rows = {name: [data.get(column) for column in columns] for name, data in sets.items()}
        headings = [_HEADINGS.get(column, column.replace("_", " ")) for column in columns]
        blocks.append(Table(headings, rows, corner="data set"))
    signatures = [_field_rows(data) for data in records]
    for index, fields in enumerate(signatures):
        if fields not in signatures[:index]:
            columns = ["kind", "shape", "range", "symbols"]
            named = any(row[-1] for row in fields.values())
            rows = fields if named else {name: row[:-1] for name, row in fields.items()}
            blocks.append(Table([*columns, "classes"] if named else columns, rows, corner="field"))
    return Section("Data", [*blocks, *_skipped_tables(records), *_ignored_tables(records)])


def _skipped_tables(records: list[dict[str, Any]]) -> list[Block]:
    """A table of the skipped files for each data set that has some."""
    tables: list[Block] = []
    seen = list[Any]()
    for data in records:
        skipped, count = data.get("skipped"), data.get("skipped_count")
        if not isinstance(skipped, list) or not isinstance(count, int) or skipped in seen:
            continue  # all parts of a split list the skipped files of the whole
        seen.append(skipped)
        rows = {str(file.get("name")): [file.get("why")] for file in skipped if isinstance(file, dict)}
        more = f"; the first {len(rows)} are named" if count > len(rows) else ""
        caption = f"Left out of the data, because they could not be read: {count:,}{more}."
        tables.append(Table(["why"], rows, corner="left out", caption=caption))
    return tables


def _ignored_tables(records: list[dict[str, Any]]) -> list[Block]:
    """A table of the files that no rule reads, for each data set that has some."""
    tables, seen = list[Block](), list[Any]()
    for data in records:
        rules = data.get("ignored")
        if not isinstance(rules, dict) or not rules or rules in seen:
            continue
        seen.append(rules)
        entries = {str(rule): entry for rule, entry in rules.items() if isinstance(entry, dict)}
        rows = {rule: [entry.get("count"), _first_names(entry)] for rule, entry in entries.items()}
        caption = "Files of the folder that are no data of this kind, by rule."
        tables.append(Table(["files", "such as"], rows, corner="ignored", caption=caption))
    return tables


def _first_names(entry: Mapping[str, Any]) -> str:
    names = entry.get("names")
    return ", ".join(map(str, names)) if isinstance(names, list) else ""


def _is_shown(name: str, value: Any) -> bool:
    if isinstance(value, str) and len(value) > _LONG:
        return False
    return name not in ("name", "part") and isinstance(to_python_scalar(value), str | int | float)


def _field_rows(data: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Field -> kind, shape, range, symbols and names of classes."""
    return {
        name: [*describe_field(field), _class_text(data, name)] for name, field in data["signature"].items()
    }


def _class_text(data: Mapping[str, Any], name: str) -> str:
    """The names of a label field's classes; "" where the record has none."""
    classes = data.get("classes" if name == "label" else f"{name}_classes")
    if not isinstance(classes, list) or data["signature"][name]["kind"] != "label":
        return ""
    more = f" and {len(classes) - _CLASSES} more" if len(classes) > _CLASSES else ""
    return ", ".join(map(str, classes[:_CLASSES])) + more


def facts_line(runs: Mapping[str, Results], folders: Mapping[str, RunHistory]) -> str:
    """A line on the data, the model's size and the training: what a reader asks first."""
    facts = []
    trained = _distinct(run.record.get("data") for run in folders.values())
    evaluated = _distinct(results.about.get("data") for results in runs.values() if results)
    if len(trained) == 1:
        facts.append(f"trained on {_data_text(trained[0])}")
    if len(evaluated) == 1:
        facts.append(f"evaluated on {_data_text(evaluated[0])}")
    described = (trained or evaluated)[:1]
    for data in described:
        kinds = []
        for name, field in data["signature"].items():
            kind, shape, span, symbols = describe_field(field)
            size = (
                f"{symbols} classes"
                if kind == "label" and symbols
                else ", ".join([f"{kind} {shape}", *([span] if span else [])])
            )
            kinds.append(f"{name}: {size}")
        facts.append(
            "; ".join(kinds[:_FIELDS]) + (f"; {len(kinds) - _FIELDS} more" if len(kinds) > _FIELDS else "")
        )
    parameters = {results.about.get("parameters") for results in runs.values()} - {None}
    if len(runs) == 1 and parameters:
        facts.append(f"{parameters.pop():,} parameters")
    return " · ".join(facts)


def _distinct(records: Iterable[Any]) -> list[dict[str, Any]]:
    """The different data sets among records of data, without those that have no signature."""
    found: list[dict[str, Any]] = []
    for data in records:
        if isinstance(data, dict) and isinstance(data.get("signature"), dict):
            known = [(each.get("name"), each.get("size")) for each in found]
            found += [data] if (data.get("name"), data.get("size")) not in known else []
    return found


def _data_text(data: Mapping[str, Any]) -> str:
    size = data.get("size")
    return f"{data.get('name')}" + (f", {size:,} examples" if isinstance(size, int) else "")


def run_section(folders: Mapping[str, RunHistory], fallback: Mapping[str, Any]) -> Section:
    """Command, seed, versions and times of the runs that have a record; else those of ``fallback``."""
    facts = {name: describe_run(history.record) for name, history in folders.items() if history.record}
    if not facts:
        return Section("How it was made", [Listing(describe_run(fallback), frozenset({"command"}))])
    runs = list(facts.values())
    common = {key: value for key, value in runs[0].items() if all(run.get(key) == value for run in runs)}
    blocks: list[Block] = [Listing(common, frozenset({"command"}))]
    differing = [key for key in dict.fromkeys(key for run in runs for key in run) if key not in common]
    if differing:
        rows = {name: [run.get(key) for key in differing] for name, run in facts.items()}
        blocks.append(Table(differing, rows))
    return Section("How it was made", blocks)
