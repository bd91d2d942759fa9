"""Output of commands: JSON, rich tables on a terminal, plain aligned columns in a pipe."""

from __future__ import annotations

import json as json_text
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprkit.errors import printable as printable  # for all commands


def describe_files(out: Path, files: Sequence[Path], examples: int) -> str:
    """Describe the files that were written: ``out.csv: 200 examples``, ``out: 200 files, 0.png to 199.png``."""
    if len(files) == 1 and files[0] == out:
        return f"{out}: {examples:,} example{'s' if examples != 1 else ''}"
    listed = files[0].name if len(files) == 1 else f"{files[0].name} to {files[-1].name}"
    return f"{out}: {len(files):,} file{'s' if len(files) != 1 else ''}, {listed}"


def emit_files(out: Path, files: Sequence[Path], examples: int, *, json: bool, **more: Any) -> None:
    """Print which files were written, as a sentence or, with ``more``, as JSON."""
    if json:
        emit_json({"files": [str(file) for file in files], "examples": examples, **more})
    else:
        print(printable(describe_files(out, files, examples)))


def emit_json(value: Any) -> None:
    """Print plain data as JSON, with control characters escaped."""
    text = json_text.dumps(value, indent=2, ensure_ascii=False)
    print(re.sub(r"[^\n\x20-\x7e]", _escape_unprintable, text))


def _escape_unprintable(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else json_text.dumps(match[0])[1:-1]


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without the columns that are empty in every row."""
    used = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    columns, rows = [columns[i] for i in used], [[printable(row[i]) for i in used] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, overflow="fold", no_wrap=index == 0)
        for row in rows:
            table.add_row(*map(Text, row))  # Text: brackets in a plugin's texts are no markup
        Console().print(table)
        return
    widths = [max(len(line[index]) for line in [columns, *rows]) for index in range(len(columns))]
    for line in [columns, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
