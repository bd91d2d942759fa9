"""The sections that say where results come from: parts, data, command and versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reprkit.reporting.folder import Trace, facts
from reprkit.reporting.page import Block, Listing, Section, Table
from reprkit.runs.metrics import to_python_scalar
from reprkit.runs.results import Results

# How a data set's record is headed.
_DATA = {"size": "examples", "of": "of", "seed": "split's seed", "skipped_count": "left out"}
_LONG = 300  # characters of a fact that a cell does not take, such as the alphabet of a text


def parts_section(runs: Mapping[str, Results]) -> Section | None:
    """What each model is made of, and how large it is: a row a part for one run, a row a run for several."""
    described = {name: results.about for name, results in runs.items() if results.about.get("parts")}
    if not described:
        return None
    if len(described) == 1:
        about = next(iter(described.values()))
        rows = {role: [part["reference"], part["parameters"]] for role, part in about["parts"].items()}
        rows["whole model"] = ["", about["parameters"]]
        return Section("Parts and parameters", [Table(["reference", "parameters"], rows, corner="part")])
    roles = list(dict.fromkeys(role for about in described.values() for role in about["parts"]))
    roles = [role for role in roles if role != "adapters"]
    rows = {
        name: [*(_short(about["parts"].get(role)) for role in roles), about["parameters"]]
        for name, about in described.items()
    }
    return Section("Parts and parameters", [Table([*roles, "parameters"], rows)])


def _short(part: Mapping[str, Any] | None) -> str | None:
    return None if part is None else part["reference"].removeprefix("reprkit/")


def data_section(runs: Mapping[str, Results], folders: Mapping[str, Trace]) -> Section | None:
    """The data's signature, and what of it could not be read."""
    found = [results.about.get("data") for results in runs.values()]
    found += [run.record.get("data") for run in folders.values()]
    described = [each for each in found if isinstance(each, dict) and isinstance(each.get("signature"), dict)]
    if not described:
        return None
    sets = {each["name"]: each for each in reversed(described) if isinstance(each.get("name"), str)}
    columns = list(dict.fromkeys(k for each in sets.values() for k, v in each.items() if _plain(k, v)))
    blocks: list[Block] = []
    if sets:
        rows = {name: [each.get(column) for column in columns] for name, each in sets.items()}
        blocks.append(
            Table([_DATA.get(each, each.replace("_", " ")) for each in columns], rows, corner="data set")
        )
    fields = [_fields(each["signature"]) for each in described]
    for place, each in enumerate(fields):
        if each not in fields[:place]:
            blocks.append(Table(["kind", "shape", "range", "symbols"], each, corner="field"))
    return Section("Data", [*blocks, *_skipped(described)])


def _skipped(described: list[dict[str, Any]]) -> list[Block]:
    """A table of what could not be read, for each data set of which something was left out."""
    tables: list[Block] = []
    told = list[Any]()
    for each in described:
        named, count = each.get("skipped"), each.get("skipped_count")
        if not isinstance(named, list) or not isinstance(count, int) or named in told:
            continue  # a division's parts all tell what their whole left out
        told.append(named)
        rows = {str(one.get("name")): [one.get("why")] for one in named if isinstance(one, dict)}
        more = f"; the first {len(rows)} are named" if count > len(rows) else ""
        caption = f"Left out of the data, because they could not be read: {count:,}{more}."
        tables.append(Table(["why"], rows, corner="left out", caption=caption))
    return tables


def _plain(name: str, value: Any) -> bool:
    if isinstance(value, str) and len(value) > _LONG:
        return False
    return name not in ("name", "part") and isinstance(to_python_scalar(value), str | int | float)


def _fields(signature: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {
        name: [
            field["kind"],
            " × ".join("any" if each is None else str(each) for each in field["shape"]) or "one number",
            " to ".join(f"{each:g}" for each in field["range"]) if field.get("range") else None,
            field.get("vocab"),
        ]
        for name, field in signature.items()
    }


def run_section(folders: Mapping[str, Trace], fallback: Mapping[str, Any]) -> Section:
    """Command, seed, versions and times of the runs that left a record; of this process otherwise."""
    told = {name: facts(trace.record) for name, trace in folders.items() if trace.record}
    if not told:
        return Section("How it was made", [Listing(facts(fallback), frozenset({"command"}))])
    each = list(told.values())
    alike = {key: value for key, value in each[0].items() if all(other.get(key) == value for other in each)}
    blocks: list[Block] = [Listing(alike, frozenset({"command"}))]
    differing = [key for key in dict.fromkeys(key for one in each for key in one) if key not in alike]
    if differing:
        blocks.append(
            Table(differing, {name: [one.get(key) for key in differing] for name, one in told.items()})
        )
    return Section("How it was made", blocks)
