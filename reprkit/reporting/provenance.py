"""The sections on how results were obtained: parts, data, command and versions."""

from __future__ import annotations

from collections.abc import Mapping
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
_LONG = 300  # characters of a text, such as an alphabet, above which it is not shown


def parts_section(runs: Mapping[str, Results]) -> Section | None:
    """Parts and parameter counts of each model: one row per part for one run, one row per run for several."""
    described = {name: results.about for name, results in runs.items() if results.about.get("parts")}
    if not described:
        return None
    if len(described) == 1:
        about = next(iter(described.values()))
        rows = {role: [part["reference"], part["parameters"]] for role, part in about["parts"].items()}
        rows["whole model"] = ["", about.get("parameters")]
        return Section("Parts and parameters", [Table(["reference", "parameters"], rows, corner="part")])
    roles = list(dict.fromkeys(role for about in described.values() for role in about["parts"]))
    roles = [role for role in roles if role != "adapters"]
    rows = {
        name: [*(_short(about["parts"].get(role)) for role in roles), about.get("parameters")]
        for name, about in described.items()
    }
    return Section("Parts and parameters", [Table([*roles, "parameters"], rows)])


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
    signatures = [_field_rows(data["signature"]) for data in records]
    for index, fields in enumerate(signatures):
        if fields not in signatures[:index]:
            blocks.append(Table(["kind", "shape", "range", "symbols"], fields, corner="field"))
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


def _field_rows(signature: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: list(describe_field(field)) for name, field in signature.items()}


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
