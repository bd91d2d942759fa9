"""The building blocks of a report: a Page of Sections of Tables, Figures and Notes, written as one HTML file.

::

    results = Section("Results", [Table(["accuracy"], {"vq": [0.94]}), Images(title="...", rows=...)])
    Page("Voice conversion", [results]).write("runs/voice/report.html")
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from reprkit.reporting.figures import Figure, legend_html
from reprkit.runs.metrics import finite_metrics, to_python_scalar
from reprkit.runs.spread import Spread
from reprkit.utils.plain_table import text_table

_SORTED = 24  # columns of a table by which it can be sorted
_ARROWS = {"min": "↓", "max": "↑"}
_DIRECTIONS = {"min": "lower is better", "max": "higher is better"}


def format_number(value: Any) -> str:
    """Format a value for reading: 0.941, 1,797, 3.2e-05, 0.43 ± 0.012; an en dash for None and NaN."""
    if isinstance(value, Spread):
        mean = format_number(value.mean)
        return mean if math.isnan(value.deviation) else f"{mean} ± {value.deviation:.2g}"
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
        best: column -> whether its lowest ("min") or highest ("max") value is marked as the best; an arrow says which.
        units: column -> its unit, in small letters below the heading.
        corner: heading of the column of names.
        caption: a line under the table.
        notes: name of a row -> a line below it, in small letters.
        folded: whether the table is collapsed under the heading "All metrics".
        sortable: whether a click on a heading sorts the rows by that column, the best (or lowest) value first.  It is done by
            the page's style sheet, without a script.
    """

    columns: Sequence[str]
    rows: Mapping[str, Sequence[Any]]
    best: Mapping[str, Literal["min", "max"]] = field(default_factory=dict)
    corner: str = ""
    caption: str = ""
    folded: bool = False
    units: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    sortable: bool = False

    def __post_init__(self) -> None:
        """Check that every row has a value for every column."""
        for name, row in self.rows.items():
            if len(row) != len(self.columns):
                raise ValueError(f"row {name!r} has {len(row)} values for {len(self.columns)} columns")

    def html(self) -> str:
        """The table with its best values in bold."""
        best = self._best_cells()
        orders = self._sort_orders() if self.sortable and len(self.rows) > 1 else {}
        group = f"t{zlib.crc32(repr((self.columns, self.rows)).encode()):08x}"
        heads = [self._heading(0, self.corner, group if orders else "")]
        for index, column in enumerate(self.columns, 1):
            heads.append(self._heading(index, column, group if index in orders else ""))
        role = _roles if orders else _no_roles
        body = []
        for number, (name, row) in enumerate(self.rows.items()):
            cells = []
            for column, value in zip(self.columns, row, strict=True):
                is_number = isinstance(to_python_scalar(value), int | float | Spread) or value is None
                kind = "num" if is_number else "text"
                kind += " best" if (name, column) in best else ""
                cells.append(f'<td{role("cell")} class="{kind}">{escape(format_number(value))}</td>')
            places = ";".join(f"--o{index}:{order[number]}" for index, order in orders.items())
            style = f' style="{places}"' if orders else ""
            note = f"<small>{escape(self.notes[name])}</small>" if self.notes.get(name) else ""
            head = f'<th{role("rowheader")} scope="row">{escape(name)}{note}</th>'
            body.append(f"<tr{role('row')}{style}>{head}{''.join(cells)}</tr>")
        kind = f' class="sortable" style="--columns:{len(self.columns) + 1}"' if orders else ""
        hint = "Click on a heading to sort." if orders else ""
        text = " ".join(part for part in (self.caption, hint) if part)
        caption = f"<p class='caption'>{escape(text)}</p>" if text else ""
        html = (
            f'<div class="scroll"><table{role("table")}{kind}><thead{role("rowgroup")}>'
            f"<tr{role('row')}>{''.join(heads)}</tr></thead>"
            f"<tbody{role('rowgroup')}>{''.join(body)}</tbody></table></div>{caption}"
        )
        return f"<details><summary>All metrics</summary>{html}</details>" if self.folded else html

    def _heading(self, index: int, text: str, group: str) -> str:
        """A heading: name, direction and unit; with a group's name also the button that sorts by the column."""
        html = escape(text)
        if text in self.best and index:
            arrow, direction = _ARROWS[self.best[text]], _DIRECTIONS[self.best[text]]
            html += f' <span class="better" title="{direction}" aria-label="{direction}">{arrow}</span>'
        if index and self.units.get(text):
            html += f"<small>{escape(self.units[text])}</small>"
        if group:
            chosen = "" if index else " checked"
            label = escape(f"sort by {text}" if index else "order as given", quote=True)
            button = f'<input type="radio" name="{group}" aria-label="{label}"{chosen}>'
            html = f'<label title="{label}">{button}{html or "as given"}</label>'
        role = _roles("columnheader") if self.sortable and len(self.rows) > 1 else ""
        return f'<th{role} scope="col">{html}</th>'

    def _sort_orders(self) -> dict[int, list[int]]:
        """Column -> place of each row if sorted by it, the best value first and missing ones last."""
        orders = {}
        for index, column in enumerate(self.columns[:_SORTED], 1):
            values = [_sort_key(row[index - 1], self.best.get(column) == "max") for row in self.rows.values()]
            if len(set(values)) > 1:
                places = sorted(range(len(values)), key=lambda number: values[number])
                orders[index] = [places.index(number) for number in range(len(values))]
        return orders

    def __str__(self) -> str:
        """The table in plain text, for a terminal; an arrow says which direction is better."""
        heads = [f"{name} {_ARROWS[self.best[name]]}" if name in self.best else name for name in self.columns]
        rows = [[name, *map(format_number, row)] for name, row in self.rows.items()]
        return text_table([self.corner, *heads], rows)

    def _best_cells(self) -> set[tuple[str, str]]:
        cells = set()
        for index, column in enumerate(self.columns):
            if column not in self.best:
                continue
            values = finite_metrics({name: _mean(row[index]) for name, row in self.rows.items()})
            if len(values) > 1 and len(set(values.values())) > 1:
                best = min(values.values()) if self.best[column] == "min" else max(values.values())
                cells |= {(name, column) for name, value in values.items() if value == best}
        return cells


@dataclass
class Tiles:
    """A few important numbers in large type: name -> value.

    Attributes:
        notes: name -> a line below it, such as the unit and which direction is better.
    """

    values: Mapping[str, Any]
    notes: Mapping[str, str] = field(default_factory=dict)

    def html(self) -> str:
        """A row of numbers."""
        tiles = (
            f'<div class="tile"><b>{escape(format_number(value))}</b><span>{escape(name)}</span>'
            + (f"<small>{escape(self.notes[name])}</small>" if self.notes.get(name) else "")
            + "</div>"
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
    """A report: a title, a one-sentence verdict, sections, and a last line (``made``) that says when it was written.

    ``facts`` is a line below the verdict: the data, the number of parameters, the steps.
    """

    title: str
    sections: Sequence[Section]
    verdict: str = ""
    made: str = ""
    facts: str = ""

    def html(self) -> str:
        """The whole page, without links to other files or to the network."""
        import jinja2

        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        package = files("reprkit.reporting")
        template = environment.from_string(package.joinpath("page.html").read_text(encoding="utf-8"))
        style = package.joinpath("page.css").read_text(encoding="utf-8")
        return template.render(page=self, style=style + _sort_rules())

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
    content = figure.html()
    zoom = ""
    if "<svg" in content or "<img" in content:
        zoom = f'<input type="checkbox" class="zoom" title="enlarge" aria-label="enlarge {label}">'
    return f'<figure class="{kind}"{attribute}>{zoom}{heading}{content}</figure>'


def _roles(name: str) -> str:
    """The role of an element of a table that is laid out as a grid, by which browsers lose its meaning."""
    return f' role="{name}"'


def _no_roles(name: str) -> str:
    return ""


def _mean(value: Any) -> Any:
    return value.mean if isinstance(value, Spread) else value


def _sort_key(value: Any, highest_first: bool) -> tuple[int, float, str]:
    """Key by which a column is sorted: numbers, then texts, then missing values."""
    value = to_python_scalar(_mean(value))
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return (2, 0.0, "")
    if isinstance(value, int | float):
        return (0, -value if highest_first else value, "")
    return (1, 0.0, str(value))


def _sort_rules() -> str:
    """Rules by which the checked heading of a sortable table orders its rows."""
    return "".join(
        f"table.sortable:has(th:nth-child({index + 1}) input:checked) tbody tr {{ order: var(--o{index}, 0); }}\n"
        for index in range(1, _SORTED + 1)
    )


def _figure_row(figures: list[str]) -> str:
    return f'<div class="figures">{"".join(figures)}</div>' if figures else ""
