"""``reprkit inspect DIR``: a checkpoint's parts, widths, parameters, metrics and plugins, and runs nothing."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from reprkit.checkpoints.reader import StoredCheckpoint, iterate_part_names, read, reference_text
from reprkit.commands.output import emit_json, emit_table, printable
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.registry import Registry, default_registry
from reprkit.runs.filenames import FORMAT
from reprkit.runs.metrics import format_number, to_json_value
from reprkit.runs.reader import StoredRun, run_of


@dataclass(frozen=True)
class Line:
    """One part of the checkpoint, as shown."""

    where: str
    kind: str
    part: str
    width: str
    numbers: int
    note: str = ""


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Of a checkpoint, or of a run that has one in model/.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Inspect a checkpoint: parts, widths, parameters, metrics, plugins.

    Nothing of it is run or built: this works where its plugins, or torch, are missing.
    """
    stored = read(folder, newer=True)
    run = run_of(stored.folder)
    registry = default_registry()
    lines = _lines(stored, registry)
    plugins = _plugins(stored.manifest, registry)
    total = sum(each.numbers for each in lines)
    size = sum(each.bytes for each in stored.tensors.values())
    if json:
        emit_json(
            {
                "folder": str(stored.folder),
                "format": stored.format,
                "reprkit": stored.manifest.get("reprkit"),
                "parts": [asdict(each) for each in lines],
                "numbers": total,
                "bytes": size,
                "signature": stored.manifest.get("signature"),
                "output": stored.manifest.get("output"),
                "weights": stored.manifest.get("weights"),
                "plugins": plugins,
                "run": {
                    "folder": str(run.folder) if run.folder else None,
                    "status": run.record.get("status"),
                    "command": run.record.get("command"),
                    "seed": run.record.get("seed"),
                    "best": {name: stage["best"] for name, stage in run.stages.items() if stage.get("best")},
                    "metrics": to_json_value(run.metrics),
                    "notes": run.notes,
                },
            }
        )
        return
    by = printable(str(stored.manifest.get("reprkit", "(unknown)")))
    print(f"{stored.folder}: a checkpoint of reprkit {by}")
    if stored.format > FORMAT:
        print(f"  of format {stored.format}; this reprkit can load up to {FORMAT}: upgrade it")
    print()
    rows = [(e.where, e.kind, e.part, e.width, f"{e.numbers:,}" if e.numbers else "", e.note) for e in lines]
    emit_table(("", "kind", "part", "width", "parameters", "note"), rows)
    print(f"\n{total:,} parameters, buffers such as codebook statistics included; {size / 1e6:.1f} MB")
    _say_data(stored.manifest)
    _say_run(run)
    for each in plugins:
        print(printable(f"plugin {each['name']} {each['version']}: {each['status']}"))


def _lines(stored: StoredCheckpoint, registry: Registry) -> list[Line]:
    """The parts in the order in which the data runs through them."""
    manifest, lines = stored.manifest, []
    factors = manifest.get("factors") or {}
    for name, path in factors.items():
        home = f"factors.{name}"
        read, inner = stored.width(f"{home}.adapter", 1), stored.width(f"{home}.adapter", 0)
        widths = [str(each) for each in (inner, stored.width(f"adapters.{name}", 1)) if each is not None]
        reads = f"reads {path['input']}" if path.get("input", "x") != "x" else ""
        pooled = "pooled to one token" if path.get("pool") else ""
        note = ", ".join(each for each in (reads, pooled) if each)
        say = functools.partial(_line, stored, registry, name)
        lines += [
            say("encoder", path.get("encoder"), f"{home}.encoder", _wide(read), note),
            Line(name, "adapter", "linear", "", stored.elements(f"{home}.adapter")),
            say("latent", path.get("latent"), f"{home}.latent", " → ".join(widths)),
        ]
        if f"adapters.{name}.weight" in stored.tensors:
            lines.append(Line(name, "adapter", "linear", "", stored.elements(f"adapters.{name}")))
    if manifest.get("decoder"):
        width = next((stored.width(f"adapters.{name}", 0) for name in factors), None)
        lines.append(_line(stored, registry, "", "decoder", manifest["decoder"], "decoder", _wide(width)))
    lines.append(_line(stored, registry, "", "objective", manifest.get("objective"), "objective", ""))
    return lines


def _line(
    stored: StoredCheckpoint,
    registry: Registry,
    where: str,
    kind: str,
    record: Any,
    prefix: str,
    width: str,
    note: str = "",
) -> Line:
    offered = {each.qualified for every in KINDS for each in registry.specs(every)}
    missing = [name for _, name in iterate_part_names(record, kind) if name not in offered]
    notes = [note] if note else []
    notes += [f"not offered by what is installed: {', '.join(missing)}"] if missing else []
    return Line(where, kind, reference_text(record), width, stored.elements(prefix), "; ".join(notes))


def _wide(width: int | None) -> str:
    return "" if width is None else str(width)


def _plugins(manifest: Mapping[str, Any], registry: Registry) -> list[dict[str, str]]:
    """Every distribution that the checkpoint names, its version then, and what is installed now."""
    found = []
    for name, version in (manifest.get("plugins") or {}).items():
        rows = [row for row in registry.plugins if row.distribution == name]
        if not rows:
            status = f"not installed; pip install '{name}=={version}'"
        elif all(row.status != "ok" for row in rows):
            status = f"installed and {rows[0].status} ({rows[0].reason})"
        elif rows[0].version == version:
            status = "installed"
        else:
            status = f"installed as {rows[0].version}"
        found.append({"name": name, "version": str(version), "status": status})
    return found


def _say_data(manifest: Mapping[str, Any]) -> None:
    for name, each in (manifest.get("signature") or {}).items():
        shape = " ".join("any" if size is None else str(size) for size in each.get("shape", ()))
        facts = [str(each.get("kind")), f"({shape})" if shape else ""]
        facts += [f"in [{each['range'][0]:g}, {each['range'][1]:g}]"] if each.get("range") else []
        facts += [f"of {each['vocab']} symbols"] if each.get("vocab") else []
        print(printable(f"data {name}: {' '.join(fact for fact in facts if fact)}"))


def _say_run(run: StoredRun) -> None:
    if run.record:
        status, seed = run.record.get("status", "unknown"), run.record.get("seed", "unknown")
        print(printable(f"run: {status}, seed {seed}: {run.record.get('command', '')}"))
        for stage in run.stages.values():
            if stage.get("best"):
                best = stage["best"]
                print(printable(f"best: {best['metric']} {best['value']:.6g}, kept at step {best['step']}"))
    rows = [(name, format_number(value)) for name, value in run.metrics.items()]
    if rows:
        print(f"\nmetrics, from {run.source}:")
        emit_table(("metric", "value"), rows)
        print()
    for note in run.notes:
        print(printable(note))
