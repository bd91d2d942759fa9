"""The building blocks of a report: a Page of Sections of Tables, Figures and Notes, written as one HTML file.

::

    results = Section("Results", [Table(["accuracy"], {"vq": [0.94]}), Images(title="...", rows=...)])
    Page("Voice conversion", [results]).write("runs/voice/report.html")
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from reprkit.reporting.figures import Figure, legend_html
from reprkit.runs.metrics import finite_metrics, to_python_scalar
from reprkit.runs.spread import Spread


def format_number(value: Any) -> str:
    """Format a value for reading: 0.941, 1,797, 3.2e-05, 0.941 ± 0.003; an en dash for None and NaN."""
    if isinstance(value, Spread):
        if math.isnan(value):
            return "–"
        deviation = f"{value.deviation:.2g}" if value.deviation < 100 else format_number(value.deviation)
        return f"{format_number(float(value))} ± {deviation}"
    value = to_python_scalar(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    if size == 0:
        return "0"
    if not math.isfinite(value) or size < 1e-3 or size >= 1e9:
        return f"{value:.2g}"
    if size >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size < 0.1 else f"{value:.{3 if size < 10 else 2 if size < 100 else 1}f}"


@dataclass
class Table:
    """A table: name -> one value per column (None where there is none).

    Attributes:
        columns: heading of each column.
        rows: name -> values, as many as columns.
        best: column -> whether its lowest ("min") or highest ("max") value is marked as the best.
        corner: heading of the column of names.
        caption: a line under the table.
        folded: whether the table is collapsed under the heading "All metrics".
    """

    columns: Sequence[str]
    rows: Mapping[str, Sequence[Any]]
    best: Mapping[str, Literal["min", "max"]] = field(default_factory=dict)
    corner: str = ""
    caption: str = ""
    folded: bool = False

    def __post_init__(self) -> None:
        """Check that every row has a value for every column."""
        for name, row in self.rows.items():
            if len(row) != len(self.columns):
                raise ValueError(f"row {name!r} has {len(row)} values for {len(self.columns)} columns")

    def html(self) -> str:
        """The table with its best values in bold."""
        best = self._best_cells()
        heads = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in [self.corner, *self.columns])
        body = []
        for name, row in self.rows.items():
            cells = []
            for column, value in zip(self.columns, row, strict=True):
                kind = "num" if isinstance(to_python_scalar(value), int | float) or value is None else "text"
                kind += " best" if (name, column) in best else ""
                cells.append(f'<td class="{kind}">{escape(format_number(value))}</td>')
            body.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
        caption = f"<p class='caption'>{escape(self.caption)}</p>" if self.caption else ""
        html = (
            f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>{caption}"
        )
        return f"<details><summary>All metrics</summary>{html}</details>" if self.folded else html

    def __str__(self) -> str:
        """The table in plain text, for a terminal."""
        lines = [
            [self.corner, *self.columns],
            *([name, *map(format_number, row)] for name, row in self.rows.items()),
        ]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.columns) + 1)]
        texts = []
        for line in lines:
            first, *rest = line
            aligned = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
            texts.append("  ".join([first.ljust(widths[0]), *aligned]).rstrip())
        return "\n".join([texts[0], "─" * sum(widths, 2 * len(self.columns)), *texts[1:]])

    def _best_cells(self) -> set[tuple[str, str]]:
        cells = set()
        for index, column in enumerate(self.columns):
            if column not in self.best:
                continue
            values = finite_metrics({name: row[index] for name, row in self.rows.items()})
            if len(values) > 1 and len(set(values.values())) > 1:
                best = min(values.values()) if self.best[column] == "min" else max(values.values())
                cells |= {(name, column) for name, value in values.items() if value == best}
        return cells


@dataclass
class Tiles:
    """A few important numbers in large type: name -> value."""

    values: Mapping[str, Any]

    def html(self) -> str:
        """A row of numbers."""
        tiles = (
            f'<div class="tile"><b>{escape(format_number(value))}</b><span>{escape(name)}</span></div>'
            for name, value in self.values.items()
        )
        return f'<div class="tiles">{"".join(tiles)}</div>'


@dataclass
class Listing:
    """Facts by name, such as the command, the seed and versions; those named in ``code`` in a fixed-width font."""

    facts: Mapping[str, Any]
    code: frozenset[str] = frozenset()

    def html(self) -> str:
        """A definition list."""
        pairs = (
            f"<dt>{escape(name)}</dt><dd>"
            + (f"<pre>{escape(str(value))}</pre>" if name in self.code else escape(format_number(value)))
            + "</dd>"
            for name, value in self.facts.items()
        )
        return f"<dl>{''.join(pairs)}</dl>"


@dataclass
class Legend:
    """Names of the lines in the charts that follow, beside their colors, in the palette's order."""

    names: Sequence[str]

    def html(self) -> str:
        """Names beside their colors."""
        return legend_html(self.names)


@dataclass
class Note:
    """A sentence, such as the reason why something is not shown."""

    text: str

    def html(self) -> str:
        """A paragraph."""
        return f'<p class="note">{escape(self.text)}</p>'


@dataclass
class Raw:
    """Rendered HTML, such as a section of an earlier page."""

    text: str

    def html(self) -> str:
        """The text, unchanged."""
        return self.text


Block = Table | Tiles | Listing | Legend | Note | Raw | Figure


@dataclass
class Section:
    """A heading, a text and blocks; consecutive figures share a row."""

    title: str
    blocks: Sequence[Block]
    text: str = ""

    def html(self) -> str:
        """The blocks in order."""
        parts, row = [], []
        for block in self.blocks:
            if isinstance(block, Figure):
                row.append(_figure_html(block))
                continue
            parts += [_figure_row(row), block.html()]
            row = []
        return "".join([*parts, _figure_row(row)])


@dataclass
class Page:
    """A report: a title, a one-sentence verdict, sections, and a last line (``made``) that says when it was written."""

    title: str
    sections: Sequence[Section]
    verdict: str = ""
    made: str = ""

    def html(self) -> str:
        """The whole page, without links to other files or to the network."""
        import jinja2

        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        package = files("reprkit.reporting")
        template = environment.from_string(package.joinpath("page.html").read_text(encoding="utf-8"))
        style = package.joinpath("page.css").read_text(encoding="utf-8")
        return template.render(page=self, style=style)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page atomically; missing folders are created."""
        from reprkit.utils.atomic_files import write_text

        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return write_text(target, self.html())


def _figure_html(figure: Figure) -> str:
    title = f"<b>{escape(figure.title)}</b>" if figure.title else ""
    caption = f"<span>{escape(figure.caption)}</span>" if figure.caption else ""
    kind = "wide" if figure.wide else ""
    label = escape(f"{figure.title}. {figure.caption}".strip(". "), quote=True)
    heading = f"<figcaption>{title}{caption}</figcaption>" if title or caption else ""
    attribute = f' aria-label="{label}"' if label else ""
    return f'<figure class="{kind}"{attribute}>{heading}{figure.html()}</figure>'


def _figure_row(figures: list[str]) -> str:
    return f'<div class="figures">{"".join(figures)}</div>' if figures else ""
