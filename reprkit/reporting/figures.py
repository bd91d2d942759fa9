"""The figures of a report: plain arrays with a title, which are drawn when the page is written.

An evaluator returns them under ``"figures"``; a recipe or a plugin puts them into a Section.  Any object with
``title``, ``caption``, ``wide`` and ``html()`` is a figure, so plugins can define their own (sound, trees).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Protocol, runtime_checkable

import numpy as np

from reprkit.reporting.drawing import (
    DIVERGING,
    INK,
    PALETTE_SIZE,
    chart,
    describe_svg,
    downsample_line,
    encode_image,
    is_signed,
    series_color,
    symmetric,
    tint,
)

DASHED = 1000  # added to the index of a line's color: the same color, dashed
_MAX_BARS = 200  # more bars are drawn as one outline
_MAX_DESCRIBED = 20  # lines, bars or classes that the text alternative of a chart lists


@runtime_checkable
class Figure(Protocol):
    """Protocol of what a page can show: title and caption (plain text), and ``html()``, which escapes its texts."""

    title: str
    caption: str
    wide: bool

    def html(self) -> str:
        """The figure's HTML element, without title and caption.

        The page keeps text, tables, inline SVG, and pictures and sounds in data URLs; scripts, styles and links are removed.
        """


@dataclass(kw_only=True)
class Images:
    """Rows with equal numbers of images, one above the other: inputs above reconstructions, or one traversal per row.

    Attributes:
        rows: label -> images (n h w c), real values.
        span: the values shown black and white; the lowest and highest of all rows when None.
        colours: matplotlib's color map for images of one channel; "signed" colors negative values orange and positive ones blue,
            on a scale around zero.
        cell: largest width of an image, in rem.
    """

    title: str
    rows: Mapping[str, np.ndarray]
    span: tuple[float, float] | None = None
    colours: str = "gray"
    cell: float = 3.4
    caption: str = ""
    wide: bool = True

    def html(self) -> str:
        """A grid of images with the labels at the left."""
        span, colors = self.span or _finite_range(list(self.rows.values())), self.colours
        if colors == "signed":
            span, colors = symmetric(*span), DIVERGING
        cells = []
        for label, row in self.rows.items():
            cells.append(f'<span class="label">{escape(label)}</span>')
            for number, image in enumerate(row, 1):
                source = encode_image(image, span, colors)
                cells.append(f'<img alt="{escape(label)} {number}" src="{source}">')
        columns = max((len(row) for row in self.rows.values()), default=0)
        grid = (
            f'<div class="images" style="--columns:{columns};--cell:{self.cell:g}rem">{"".join(cells)}</div>'
        )
        return grid if self.colours == "gray" else grid + _scale_html(span, signed=colors == DIVERGING)


@dataclass(kw_only=True)
class Curves:
    """Lines over a common x axis: name -> (x, y), each (n,).

    Attributes:
        lines: the lines; points that are not finite leave a gap.
        log: whether the y axis is logarithmic; None decides by the values (all positive, over two decades).
        legend: whether to name the lines below the chart.
        colours: index of each line's color in the page's palette, plus DASHED for a dashed line; in order when None.
        bands: name of a line -> half the height of the band around it, (n,), such as the standard deviation over seeds.
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
    bands: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def html(self) -> str:
        """A line chart."""
        from matplotlib.ticker import LogFormatter

        values = np.concatenate([np.asarray(y, np.float64) for _, y in self.lines.values()] or [np.zeros(0)])
        values = values[np.isfinite(values)]
        low, high = np.quantile(values, (0.05, 0.95)) if len(values) else (0.0, 0.0)
        wide_range = low > 0 and high > 100 * low and values.min() > 0
        colors = range(len(self.lines)) if self.colours is None else self.colours
        with chart(*self.size) as drawing:
            for number, (name, line) in zip(colors, self.lines.items(), strict=True):
                x, y = downsample_line(line)
                if name in self.bands:
                    middle, half = np.asarray(line[1], np.float64), np.asarray(self.bands[name], np.float64)
                    color = series_color(number % DASHED)
                    drawing.axes.fill_between(
                        line[0], middle - half, middle + half, color=color, alpha=0.2, linewidth=0
                    )
                marker, style = "o" if len(x) < 2 else None, "--" if number >= DASHED else "-"
                drawing.axes.plot(
                    x, y, color=series_color(number % DASHED), linestyle=style, marker=marker, markersize=3.5
                )
            if wide_range if self.log is None else self.log:
                drawing.axes.set_yscale("log")
                # matplotlib's default writes powers as math, and charts do not parse math.
                drawing.axes.yaxis.set_major_formatter(LogFormatter())
                drawing.axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
            drawing.axes.set_xlabel(self.xlabel)
            drawing.axes.set_ylabel(self.ylabel)
            drawing.axes.margins(x=0.02)
        names = list(self.lines)
        svg = describe_svg(drawing.svg, self._description())
        return svg + (legend_html(names) if self.legend and len(names) > 1 else "")

    def _description(self) -> str:
        """The chart in words: of each line its ends, lowest and highest value."""
        texts = []
        for name, (x, y) in list(self.lines.items())[:_MAX_DESCRIBED]:
            values = np.asarray(y, np.float64)
            finite = np.flatnonzero(np.isfinite(values))
            if not len(finite):
                texts.append(f"{name}: no values")
                continue
            first, last = finite[0], finite[-1]
            texts.append(
                f"{name}: {values[first]:.4g} at {x[first]:g} to {values[last]:.4g} at {x[last]:g}, "
                f"between {values[finite].min():.4g} and {values[finite].max():.4g}"
            )
        more = len(self.lines) - len(texts)
        texts += [f"and {more} more lines"] if more > 0 else []
        return f"Line chart{_axes_text(self.xlabel, self.ylabel)}. {'; '.join(texts)}."


@dataclass(kw_only=True)
class Scatter:
    """Points in the plane (n 2), colored by label (n,) if there are labels."""

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
        few = len(classes) <= PALETTE_SIZE
        with chart(4.4, 3.6, frame=False) as drawing:
            for number, label in enumerate(classes):
                members = points[labels == label]
                color = series_color(number) if few else _hue_color(number / len(classes))
                size = float(np.clip(90 / np.sqrt(max(len(points), 1)), 1.8, 5))
                style: dict[str, Any] = {
                    "marker": "o",
                    "markersize": size,
                    "markeredgewidth": 0,
                    "alpha": 0.85,
                }
                drawing.axes.plot(members[:, 0], members[:, 1], linestyle="", color=color, **style)
        names = [str((self.names or {}).get(int(label), int(label))) for label in classes]
        text = f"Scatter plot of {len(points):,} points"
        if self.labels is not None:
            counts = ", ".join(
                f"{name}: {int((labels == label).sum()):,}"
                for name, label in zip(names, classes, strict=True)
            )
            text += f" of {len(classes)} classes" + (f" ({counts})" if few else "")
        svg = describe_svg(drawing.svg, f"{text}.")
        return svg + (legend_html(names) if self.labels is not None and few else "")


@dataclass(kw_only=True)
class Bars:
    """One bar per value (n,), such as the frequency of each code or the variance of each dimension.

    Attributes:
        level: a value drawn as a dashed horizontal line.
        names: of the bars, below them; numbers from 0 when None.
        errors: half the length of the error bar of each value (n,), such as the standard deviation over seeds.
    """

    title: str
    values: np.ndarray
    xlabel: str = ""
    ylabel: str = ""
    level: float | None = None
    caption: str = ""
    wide: bool = False
    names: Sequence[str] | None = None
    errors: np.ndarray | None = None

    def html(self) -> str:
        """A bar chart, or its outline if there are too many bars."""
        from matplotlib.ticker import MaxNLocator

        values = np.asarray(self.values, np.float64)
        with chart(height=2.2 if self.names is None else 2.9) as drawing:
            if len(values) <= _MAX_BARS:
                drawing.axes.bar(np.arange(len(values)), values, width=0.85, color=series_color(0))
                if self.errors is not None:
                    drawing.axes.errorbar(
                        np.arange(len(values)), values, yerr=self.errors, linestyle="", color=INK, capsize=3
                    )
            else:
                drawing.axes.stairs(values, fill=True, color=series_color(0))
            if self.level is not None:
                drawing.axes.axhline(self.level, color=series_color(1), linestyle="--", linewidth=1)
            drawing.axes.grid(False, axis="x")
            if self.names is None:
                drawing.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            else:
                drawing.axes.set_xticks(range(len(self.names)), self.names, rotation=30, ha="right")
            drawing.axes.set_xlabel(self.xlabel)
            drawing.axes.set_ylabel(self.ylabel)
            drawing.axes.margins(x=0.01)
        return describe_svg(drawing.svg, self._description(values))

    def _description(self, values: np.ndarray) -> str:
        """The chart in words: each bar where there are few, else the lowest and highest."""
        axes = _axes_text(self.xlabel, self.ylabel)
        names = [str(number) for number in range(len(values))] if self.names is None else list(self.names)
        if len(values) <= _MAX_DESCRIBED:
            errors = [""] * len(values) if self.errors is None else [f" ± {each:.3g}" for each in self.errors]
            bars = (
                f"{name}: {value:.4g}{error}"
                for name, value, error in zip(names, values, errors, strict=True)
            )
            text = f"Bar chart{axes}. {', '.join(bars)}."
        else:
            high, low = int(np.nanargmax(values)), int(np.nanargmin(values))
            text = (
                f"Bar chart of {len(values):,} values{axes}. Highest {values[high]:.4g} at {names[high]}, "
                f"lowest {values[low]:.4g} at {names[low]}."
            )
        return text if self.level is None else f"{text} A dashed line is at {self.level:.4g}."


@dataclass(kw_only=True)
class Matrix:
    """A matrix of values (rows columns) as a heat map; NaN is left empty.

    Where values have both signs, zero is transparent, negative values are orange and positive ones blue.

    Attributes:
        ticks: names of the rows and columns of a square matrix.
        detail: whether to leave the figure out of pages that compare several runs.
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
        """A heat map with a color bar."""
        from matplotlib.ticker import MaxNLocator

        values = np.asarray(self.values, np.float64)
        low, high = self.span or _finite_range([values])
        signed = is_signed(low, high)
        if signed:
            low, high = symmetric(low, high)
        with chart(4.4, 3.2) as drawing:
            image = drawing.axes.imshow(
                values,
                cmap=tint(diverging=signed),
                vmin=low,
                vmax=high,
                aspect="auto",
                interpolation="nearest",
            )
            figure = drawing.axes.get_figure()
            if figure is not None:
                figure.colorbar(image, ax=drawing.axes, shrink=0.9).outline.set_visible(False)
            drawing.axes.grid(False)
            drawing.axes.set_xlabel(self.xlabel)
            drawing.axes.set_ylabel(self.ylabel)
            if self.ticks is not None:
                positions = range(len(self.ticks))
                drawing.axes.set_xticks(positions, self.ticks)
                drawing.axes.set_yticks(positions, self.ticks)
            else:
                drawing.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                drawing.axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        return describe_svg(drawing.svg, self._description(values))

    def _description(self, values: np.ndarray) -> str:
        """The matrix in words: its size, lowest and highest value, and the diagonal of a small square one with names."""
        axes = _axes_text(self.xlabel, self.ylabel)
        low, high = _finite_range([values])
        text = f"Heat map of {values.shape[0]:,} × {values.shape[1]:,} values{axes}, from {low:.4g} to {high:.4g}."
        if (
            self.ticks is not None
            and len(self.ticks) <= _MAX_DESCRIBED
            and values.shape == (len(self.ticks),) * 2
        ):
            diagonal = zip(self.ticks, np.diag(values), strict=True)
            text += f" Diagonal: {', '.join(f'{name}: {value:.3g}' for name, value in diagonal)}."
        return text


@dataclass(kw_only=True)
class Symbols:
    """Sequences of symbols in rows, such as inputs above reconstructions: label -> sequences.

    A symbol that differs from the first row's at the same position is marked.
    """

    title: str
    rows: Mapping[str, Sequence[Sequence[object]]]
    caption: str = ""
    wide: bool = True

    def html(self) -> str:
        """One block per example with one line per row."""
        blocks = []
        count = max((len(row) for row in self.rows.values()), default=0)
        for number in range(count):
            lines = []
            for label, row in self.rows.items():
                if number < len(row):
                    first = next(iter(self.rows.values()))
                    reference = first[number] if number < len(first) else row[number]
                    symbols = _mark_differences(row[number], reference)
                    lines.append(f'<span class="label">{escape(label)}</span><code>{symbols}</code>')
            blocks.append(f'<div class="symbols">{"".join(lines)}</div>')
        return "".join(blocks)


def legend_html(names: Sequence[str]) -> str:
    """The names beside their colors, as HTML."""
    entries = (
        f'<span><i style="background:var(--s{number % PALETTE_SIZE})"></i>{escape(name)}</span>'
        for number, name in enumerate(names)
    )
    return f'<div class="legend">{"".join(entries)}</div>'


def _mark_differences(row: Sequence[object], reference: Sequence[object]) -> str:
    symbols = []
    for position, symbol in enumerate(row):
        text = escape(str(symbol))
        same = position < len(reference) and reference[position] == symbol
        symbols.append(text if same else f"<mark>{text}</mark>")
    return " ".join(symbols)


def _finite_range(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    """The lowest and highest finite value."""
    finite = [array[np.isfinite(array)] for array in map(np.asarray, arrays)]
    finite = [values for values in finite if values.size]
    return (
        (float(min(v.min() for v in finite)), float(max(v.max() for v in finite))) if finite else (0.0, 1.0)
    )


def _axes_text(xlabel: str, ylabel: str) -> str:
    """The labels of the axes in words: " of nats over step"."""
    return (f" of {ylabel}" if ylabel else "") + (f" over {xlabel}" if xlabel else "")


def _scale_html(span: tuple[float, float], *, signed: bool) -> str:
    """What the colors of images of one channel mean."""
    low, high = (f"{end:.3g}" for end in span)
    text = f"orange {low}, white 0, blue {high}" if signed else f"dark {low}, light {high}"
    return f'<div class="legend">Colors: {text}.</div>'


def _hue_color(share: float) -> str:
    """A color of the hue circle, for more classes than the palette has colors."""
    import colorsys

    red, green, blue = colorsys.hls_to_rgb(share, 0.55, 0.6)
    return f"#{int(red * 255):02x}{int(green * 255):02x}{int(blue * 255):02x}"
