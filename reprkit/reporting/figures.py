"""The figures of a report: plain arrays with a title, drawn when the page is made.

An evaluator returns them under ``"figures"``; a recipe or a plugin puts them into a Section.  Anything with
``title``, ``caption``, ``wide`` and ``html()`` is a figure, so a plugin can bring its own (sound, trees)
without touching this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol, runtime_checkable

import numpy as np

from reprkit.reporting.drawing import SERIES, chart, outline, picture, series

DASHED = 1000  # added to a line's colour: the same one, dashed
_SHOWN = 200  # more bars than this are drawn as one outline


@runtime_checkable
class Figure(Protocol):
    """What a page can show: a title and caption (plain text) and ``html()``, which escapes what it writes."""

    title: str
    caption: str
    wide: bool

    def html(self) -> str:
        """The figure's own element, without title and caption."""


@dataclass(kw_only=True)
class Images:
    """Rows of equally many pictures, one above the other: inputs over reconstructions, a traversal a row.

    Attributes:
        rows: label -> pictures (n h w c), real values.
        span: the values shown black and white; the lowest and highest of all rows when None.
        colours: matplotlib's colour map for pictures of one channel.
        cell: width of a picture at most, in rem.
    """

    title: str
    rows: Mapping[str, np.ndarray]
    span: tuple[float, float] | None = None
    colours: str = "gray"
    cell: float = 3.4
    caption: str = ""
    wide: bool = True

    def html(self) -> str:
        """A grid of pictures, the labels at the left."""
        span = self.span or _span(list(self.rows.values()))
        cells = []
        for label, row in self.rows.items():
            cells.append(f'<span class="label">{escape(label)}</span>')
            for number, each in enumerate(row, 1):
                cells.append(
                    f'<img alt="{escape(label)} {number}" src="{picture(each, span, self.colours)}">'
                )
        columns = max((len(row) for row in self.rows.values()), default=0)
        return (
            f'<div class="images" style="--columns:{columns};--cell:{self.cell:g}rem">{"".join(cells)}</div>'
        )


@dataclass(kw_only=True)
class Curves:
    """Lines over a common axis: name -> (x, y), each (n,).

    Attributes:
        lines: what to draw; points that are not finite leave a gap.
        log: a logarithmic y axis; None decides by the values (all positive, over two decades).
        legend: name the lines below the chart.
        colours: place of each line in the page's palette, plus DASHED for a dashed one; in order when None.
    """

    title: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    xlabel: str = ""
    ylabel: str = ""
    log: bool | None = None
    legend: bool = True
    colours: Sequence[int] | None = None
    caption: str = ""
    wide: bool = False
    size: tuple[float, float] = (3.4, 2.1)

    def html(self) -> str:
        """A line chart."""
        values = np.concatenate([np.asarray(y, np.float64) for _, y in self.lines.values()] or [np.zeros(0)])
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, (0.05, 0.95)) if len(values) else (0.0, 0.0)
        spread = low > 0 and high > 100 * low and values.min() > 0
        places = range(len(self.lines)) if self.colours is None else self.colours
        with chart(*self.size) as drawing:
            for number, (x, y) in zip(places, map(outline, self.lines.values()), strict=True):
                marker, style = "o" if len(x) < 2 else None, "--" if number >= DASHED else "-"
                drawing.axes.plot(
                    x, y, color=series(number % DASHED), linestyle=style, marker=marker, markersize=3.5
                )
            if spread if self.log is None else self.log:
                drawing.axes.set_yscale("log")
            drawing.axes.set_xlabel(self.xlabel)
            drawing.axes.set_ylabel(self.ylabel)
            drawing.axes.margins(x=0.02)
        names = list(self.lines)
        return drawing.svg + (chips(names) if self.legend and len(names) > 1 else "")


@dataclass(kw_only=True)
class Scatter:
    """Points in the plane (n 2), coloured by label (n,) where there are labels."""

    title: str
    points: np.ndarray
    labels: np.ndarray | None = None
    names: Mapping[int, str] | None = None
    caption: str = ""
    wide: bool = False

    def html(self) -> str:
        """A scatter plot with the classes as a legend."""
        points = np.asarray(self.points, np.float64)
        labels = np.zeros(len(points), np.int64) if self.labels is None else np.asarray(self.labels)
        classes = np.unique(labels)
        few = len(classes) <= SERIES
        with chart(4.4, 3.6, frame=False) as drawing:
            for number, each in enumerate(classes):
                chosen = points[labels == each]
                colour = series(number) if few else _wheel(number / len(classes))
                size = float(np.clip(90 / np.sqrt(max(len(points), 1)), 1.8, 5))
                style: dict[str, Any] = {
                    "marker": "o",
                    "markersize": size,
                    "markeredgewidth": 0,
                    "alpha": 0.85,
                }
                drawing.axes.plot(chosen[:, 0], chosen[:, 1], linestyle="", color=colour, **style)
        named = [str((self.names or {}).get(int(each), int(each))) for each in classes]
        return drawing.svg + (chips(named) if self.labels is not None and few else "")


@dataclass(kw_only=True)
class Bars:
    """One value per place (n,): how often each code was chosen, the variance of each dimension."""

    title: str
    values: np.ndarray
    xlabel: str = ""
    ylabel: str = ""
    level: float | None = None
    caption: str = ""
    wide: bool = False

    def html(self) -> str:
        """A bar chart, or an outline where bars are too many; ``level`` is a dashed line across."""
        from matplotlib.ticker import MaxNLocator

        values = np.asarray(self.values, np.float64)
        with chart() as drawing:
            if len(values) <= _SHOWN:
                drawing.axes.bar(np.arange(len(values)), values, width=0.85, color=series(0))
            else:
                drawing.axes.stairs(values, fill=True, color=series(0))
            if self.level is not None:
                drawing.axes.axhline(self.level, color=series(1), linestyle="--", linewidth=1)
            drawing.axes.grid(False, axis="x")
            drawing.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            drawing.axes.set_xlabel(self.xlabel)
            drawing.axes.set_ylabel(self.ylabel)
            drawing.axes.margins(x=0.01)
        return drawing.svg


@dataclass(kw_only=True)
class Matrix:
    """A table of values (rows columns) as a heat map; NaN is left empty.

    Attributes:
        ticks: names of rows and columns of a square one.
        detail: leave it out where several runs are compared.
    """

    title: str
    values: np.ndarray
    xlabel: str = ""
    ylabel: str = ""
    span: tuple[float, float] | None = None
    ticks: Sequence[str] | None = None
    detail: bool = False
    caption: str = ""
    wide: bool = False

    def html(self) -> str:
        """A heat map with its scale."""
        from matplotlib.ticker import MaxNLocator

        values = np.asarray(self.values, np.float64)
        low, high = self.span or _span([values])
        with chart(4.4, 3.2) as drawing:
            shown = drawing.axes.imshow(
                values, cmap=_tint(), vmin=low, vmax=high, aspect="auto", interpolation="nearest"
            )
            figure = drawing.axes.get_figure()
            if figure is not None:
                figure.colorbar(shown, ax=drawing.axes, shrink=0.9).outline.set_visible(False)
            drawing.axes.grid(False)
            drawing.axes.set_xlabel(self.xlabel)
            drawing.axes.set_ylabel(self.ylabel)
            if self.ticks is not None:
                places = range(len(self.ticks))
                drawing.axes.set_xticks(places, self.ticks)
                drawing.axes.set_yticks(places, self.ticks)
            else:
                drawing.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                drawing.axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return drawing.svg


@dataclass(kw_only=True)
class Symbols:
    """Sequences of symbols in rows, such as inputs over reconstructions: label -> sequences.

    Where a row differs from the first one at the same place, the symbol is marked.
    """

    title: str
    rows: Mapping[str, Sequence[Sequence[object]]]
    caption: str = ""
    wide: bool = True

    def html(self) -> str:
        """A block per example, a line per row."""
        blocks = []
        count = max((len(row) for row in self.rows.values()), default=0)
        for number in range(count):
            lines = []
            for label, row in self.rows.items():
                if number < len(row):
                    first = next(iter(self.rows.values()))
                    against = first[number] if number < len(first) else row[number]
                    words = _marked(row[number], against)
                    lines.append(f'<span class="label">{escape(label)}</span><code>{words}</code>')
            blocks.append(f'<div class="symbols">{"".join(lines)}</div>')
        return "".join(blocks)


def chips(names: Sequence[str]) -> str:
    """The names beside their colours."""
    named = (
        f'<span><i style="background:var(--s{number % SERIES})"></i>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    return f'<div class="legend">{"".join(named)}</div>'


def _marked(row: Sequence[object], against: Sequence[object]) -> str:
    words = []
    for place, symbol in enumerate(row):
        text = escape(str(symbol))
        same = place < len(against) and against[place] == symbol
        words.append(text if same else f"<mark>{text}</mark>")
    return " ".join(words)


def _span(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """The lowest and highest finite value."""
    finite = [each[np.isfinite(each)] for each in map(np.asarray, arrays)]
    held = [each for each in finite if each.size]
    return (float(min(e.min() for e in held)), float(max(e.max() for e in held))) if held else (0.0, 1.0)


def _tint() -> Any:
    """From nothing to the page's first colour: a heat map for dark pages and light ones."""
    from matplotlib.colors import LinearSegmentedColormap

    blue = (0.29, 0.45, 0.87)
    return LinearSegmentedColormap.from_list("tint", [(*blue, 0.03), (*blue, 0.5), (*blue, 1.0)])


def _wheel(share: float) -> str:
    """A colour of the hue circle, for more classes than the palette has."""
    import colorsys

    red, green, blue = colorsys.hls_to_rgb(share, 0.55, 0.6)
    return f"#{int(red * 255):02x}{int(green * 255):02x}{int(blue * 255):02x}"
