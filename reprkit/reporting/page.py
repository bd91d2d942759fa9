"""The building blocks of a report: a Page of Sections of Tables, Figures and notes, one HTML file.

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

from reprkit.reporting.figures import Figure, chips
from reprkit.runs.metrics import finite_metrics, to_python_scalar


def number(value: Any) -> str:
    """A value as people read it: 0.941, 1,797, 3.2e-05; an en dash where there is none."""
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
    """Rows of values: name -> one value a column (None where there is none).

    Attributes:
        columns: heading of each column.
        rows: name -> values, as many as columns.
        best: column -> whether the lowest or the highest value is the best one, which is then marked.
        corner: heading of the names.
        caption: a line under the table.
        folded: shown after a click, under the words "All metrics".
    """

    columns: Sequence[str]
    rows: Mapping[str, Sequence[Any]]
    best: Mapping[str, Literal["min", "max"]] = field(default_factory=dict)
    corner: str = ""
    caption: str = ""
    folded: bool = False

    def __post_init__(self) -> None:
        """Check that every row fills every column."""
        for name, row in self.rows.items():
            if len(row) != len(self.columns):
                raise ValueError(f"row {name!r} has {len(row)} values for {len(self.columns)} columns")

    def html(self) -> str:
        """The table, its best values in bold."""
        marked = self._best()
        heads = "".join(f'<th scope="col">{escape(each)}</th>' for each in [self.corner, *self.columns])
        body = []
        for name, row in self.rows.items():
            cells = []
            for column, value in zip(self.columns, row, strict=True):
                kind = "num" if isinstance(to_python_scalar(value), int | float) or value is None else "text"
                kind += " best" if (name, column) in marked else ""
                cells.append(f'<td class="{kind}">{escape(number(value))}</td>')
            body.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
        caption = f"<p class='caption'>{escape(self.caption)}</p>" if self.caption else ""
        made = (
            f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>{caption}"
        )
        return f"<details><summary>All metrics</summary>{made}</details>" if self.folded else made

    def __str__(self) -> str:
        """The table in plain text, for a terminal."""
        lines = [
            [self.corner, *self.columns],
            *([name, *map(number, row)] for name, row in self.rows.items()),
        ]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.columns) + 1)]
        written = []
        for line in lines:
            first, *rest = line
            aligned = (each.rjust(width) for each, width in zip(rest, widths[1:], strict=True))
            written.append("  ".join([first.ljust(widths[0]), *aligned]).rstrip())
        return "\n".join([written[0], "─" * sum(widths, 2 * len(self.columns)), *written[1:]])

    def _best(self) -> set[tuple[str, str]]:
        marked = set()
        for place, column in enumerate(self.columns):
            if column not in self.best:
                continue
            values = finite_metrics({name: row[place] for name, row in self.rows.items()})
            if len(values) > 1 and len(set(values.values())) > 1:
                top = min(values.values()) if self.best[column] == "min" else max(values.values())
                marked |= {(name, column) for name, value in values.items() if value == top}
        return marked


@dataclass
class Tiles:
    """The few numbers that matter, large: name -> value."""

    values: Mapping[str, Any]

    def html(self) -> str:
        """A row of numbers."""
        tiles = (
            f'<div class="tile"><b>{escape(number(value))}</b><span>{escape(name)}</span></div>'
            for name, value in self.values.items()
        )
        return f'<div class="tiles">{"".join(tiles)}</div>'


@dataclass
class Listing:
    """Facts by name, such as the command, the seed and versions; ``code`` ones in a fixed-width font."""

    facts: Mapping[str, Any]
    code: frozenset[str] = frozenset()

    def html(self) -> str:
        """A definition list."""
        pairs = (
            f"<dt>{escape(name)}</dt><dd>"
            + (f"<pre>{escape(str(value))}</pre>" if name in self.code else escape(number(value)))
            + "</dd>"
            for name, value in self.facts.items()
        )
        return f"<dl>{''.join(pairs)}</dl>"


@dataclass
class Legend:
    """The names of what the charts below show in the page's colours, in order."""

    names: Sequence[str]

    def html(self) -> str:
        """Names beside their colours."""
        return chips(self.names)


@dataclass
class Note:
    """A plain sentence, such as why something is not shown."""

    text: str

    def html(self) -> str:
        """A paragraph."""
        return f'<p class="note">{escape(self.text)}</p>'


@dataclass
class Raw:
    """HTML that is written already, such as a section that was kept from an earlier page."""

    text: str

    def html(self) -> str:
        """The text as it is."""
        return self.text


Block = Table | Tiles | Listing | Legend | Note | Raw | Figure


@dataclass
class Section:
    """A heading with what belongs under it; neighbouring figures share a row."""

    title: str
    blocks: Sequence[Block]
    text: str = ""

    def html(self) -> str:
        """The blocks in order."""
        written, row = [], []
        for block in self.blocks:
            if isinstance(block, Figure):
                row.append(_captioned(block))
                continue
            written += [_row(row), block.html()]
            row = []
        return "".join([*written, _row(row)])


@dataclass
class Page:
    """A report: title, a line of verdict, and sections."""

    title: str
    sections: Sequence[Section]
    verdict: str = ""
    made: str = ""

    def html(self) -> str:
        """The whole page: nothing in it points outside."""
        import jinja2

        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        here = files("reprkit.reporting")
        template = environment.from_string(here.joinpath("page.html").read_text(encoding="utf-8"))
        style = here.joinpath("page.css").read_text(encoding="utf-8")
        return template.render(page=self, style=style)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, in one piece or not at all; folders are made."""
        from reprkit.utils.atomic_files import write_text

        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        return write_text(place, self.html())


def _captioned(figure: Figure) -> str:
    title = f"<b>{escape(figure.title)}</b>" if figure.title else ""
    caption = f"<span>{escape(figure.caption)}</span>" if figure.caption else ""
    kind = "wide" if figure.wide else ""
    label = escape(f"{figure.title}. {figure.caption}".strip(". "), quote=True)
    heading = f"<figcaption>{title}{caption}</figcaption>" if title or caption else ""
    named = f' aria-label="{label}"' if label else ""
    return f'<figure class="{kind}"{named}>{heading}{figure.html()}</figure>'


def _row(figures: list[str]) -> str:
    return f'<div class="figures">{"".join(figures)}</div>' if figures else ""
