"""``reprkit inspect DIR``: show a checkpoint's parts, widths, parameters, metrics and plugins without building it."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from reprkit.checkpoints.reader import StoredCheckpoint, iterate_part_names, read, reference_text
from reprkit.commands.options import CheckpointArgument, JsonOption
from reprkit.commands.output import emit_json, emit_table, printable
from reprkit.registry.hookspecs import KINDS
from reprkit.registry.registry import Registry, default_registry
from reprkit.runs.filenames import FORMAT
from reprkit.runs.metrics import format_significant, to_json_value
from reprkit.runs.reader import StoredRun, run_of


@dataclass(frozen=True)
class Line:
    """One row of the table: a part of the checkpoint."""

    where: str
    kind: str
    part: str
    width: str
    numbers: int
    note: str = ""


def command(
    folder: CheckpointArgument,
    json: JsonOption = False,
) -> None:
    """Inspect a checkpoint: parts, widths, parameters, metrics, plugins.

    Nothing is built or run, so this works without its plugins and without torch.
    """
    stored = read(folder, newer=True)
    run = run_of(stored.folder)
    registry = default_registry()
    lines = _lines(stored, registry)
    plugins = _plugins(stored.manifest, registry)
    total = sum(line.numbers for line in lines)
    size = sum(tensor.bytes for tensor in stored.tensors.values())
    if json:
        emit_json(
            {
                "folder": str(stored.folder),
                "format": stored.format,
                "reprkit": stored.manifest.get("reprkit"),
                "parts": [asdict(line) for line in lines],
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
    version = printable(str(stored.manifest.get("reprkit", "(unknown)")))
    print(f"{stored.folder}: a checkpoint of reprkit {version}")
    if stored.format > FORMAT:
        print(f"  of format {stored.format}; this reprkit can load formats up to {FORMAT}: upgrade it")
    print()
    rows = [
        (line.where, line.kind, line.part, line.width, f"{line.numbers:,}" if line.numbers else "", line.note)
        for line in lines
    ]
    emit_table(("", "kind", "part", "width", "parameters", "note"), rows)
    print(f"\n{total:,} parameters, including buffers such as codebook statistics; {size / 1e6:.1f} MB")
    _print_data(stored.manifest)
    _print_run(run)
    for plugin in plugins:
        print(printable(f"plugin {plugin['name']} {plugin['version']}: {plugin['status']}"))


def _lines(stored: StoredCheckpoint, registry: Registry) -> list[Line]:
    """The parts in the order of the forward pass."""
    manifest, lines = stored.manifest, []
    offered = {part.qualified for kind in KINDS for part in registry.specs(kind)}
    part_line = functools.partial(_line, stored, offered)
    factors = manifest.get("factors") or {}
    for name, factor in factors.items():
        prefix = f"factors.{name}"
        features, inner = stored.width(f"{prefix}.adapter", 1), stored.width(f"{prefix}.adapter", 0)
        widths = [str(width) for width in (inner, stored.code_width(name)) if width is not None]
        reads = f"reads {factor['input']}" if factor.get("input", "x") != "x" else ""
        pooled = "pooled to one token" if factor.get("pool") else ""
        note = ", ".join(text for text in (reads, pooled) if text)
        lines += [
            part_line(
                name, "encoder", factor.get("encoder"), f"{prefix}.encoder", _width_text(features), note
            ),
            Line(name, "adapter", "linear", "", stored.elements(f"{prefix}.adapter")),
            part_line(name, "latent", factor.get("latent"), f"{prefix}.latent", " → ".join(widths)),
        ]
        if f"{prefix}.conditioner.weight" in stored.tensors:
            condition = f"of the condition, {factor.get('condition')}"
            lines.insert(
                -2, Line(name, "adapter", "linear", "", stored.elements(f"{prefix}.conditioner"), condition)
            )
        if f"adapters.{name}.weight" in stored.tensors:
            lines.append(Line(name, "adapter", "linear", "", stored.elements(f"adapters.{name}")))
    if manifest.get("decoder"):
        width = next((stored.width(f"adapters.{name}", 0) for name in factors), None)
        lines.append(part_line("", "decoder", manifest["decoder"], "decoder", _width_text(width)))
    for output, entry in (manifest.get("outputs") or {}).items():
        adapters = {name: f"adapters.{output}.{name}" for name in entry["reads"]}
        for name, prefix in adapters.items():
            if f"{prefix}.weight" in stored.tensors:
                lines.append(
                    Line(name, "adapter", "linear", "", stored.elements(prefix), f"to output {output}")
                )
        width = next((stored.width(prefix, 0) for prefix in adapters.values()), None)
        note = "" if entry["field"] == output else f"returns {entry['field']}"
        lines.append(
            part_line(output, "decoder", entry["decoder"], f"decoders.{output}", _width_text(width), note)
        )
    lines.append(part_line("", "objective", manifest.get("objective"), "objective", ""))
    return lines


def _line(
    stored: StoredCheckpoint,
    offered: set[str],
    where: str,
    kind: str,
    record: Any,
    prefix: str,
    width: str,
    note: str = "",
) -> Line:
    missing = [name for _, name in iterate_part_names(record, kind) if name not in offered]
    notes = [note] if note else []
    notes += [f"not offered by any installed plugin: {', '.join(missing)}"] if missing else []
    return Line(where, kind, reference_text(record), width, stored.elements(prefix), "; ".join(notes))


def _width_text(width: int | None) -> str:
    return "" if width is None else str(width)


def _plugins(manifest: Mapping[str, Any], registry: Registry) -> list[dict[str, str]]:
    """The distributions that the checkpoint names: the recorded version, and what is installed now."""
    found = []
    for name, version in (manifest.get("plugins") or {}).items():
        rows = [row for row in registry.plugins if row.distribution == name]
        if not rows:
            status = f"not installed; pip install {shlex.quote(f'{name}=={version}')}"
        elif all(row.status != "ok" for row in rows):
            status = f"installed and {rows[0].status} ({rows[0].reason})"
        elif rows[0].version == version:
            status = "installed"
        else:
            status = f"installed as {rows[0].version}"
        found.append({"name": name, "version": str(version), "status": status})
    return found


def _print_data(manifest: Mapping[str, Any]) -> None:
    for name, field in (manifest.get("signature") or {}).items():
        shape = " ".join("any" if size is None else str(size) for size in field.get("shape", ()))
        facts = [str(field.get("kind")), f"({shape})" if shape else ""]
        facts += [f"in [{field['range'][0]:g}, {field['range'][1]:g}]"] if field.get("range") else []
        facts += [f"of {field['vocab']} symbols"] if field.get("vocab") else []
        print(printable(f"data {name}: {' '.join(fact for fact in facts if fact)}"))


def _print_run(run: StoredRun) -> None:
    if run.record:
        status, seed = run.record.get("status", "unknown"), run.record.get("seed", "unknown")
        print(printable(f"run: {status}, seed {seed}: {run.record.get('command', '')}"))
        for stage in run.stages.values():
            if stage.get("best"):
                best = stage["best"]
                print(printable(f"best: {best['metric']} {best['value']:.6g}, kept at step {best['step']}"))
    rows = [(name, format_significant(value)) for name, value in run.metrics.items()]
    if rows:
        print(f"\nmetrics, from {run.source}:")
        emit_table(("metric", "value"), rows)
        print()
    for note in run.notes:
        print(printable(note))
