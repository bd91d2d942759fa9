"""The sweep of a neck as one plot: what leaks through it against what is rebuilt behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reprkit.errors import DataError
from reprkit.evaluation import Results


@dataclass(kw_only=True)
class NeckSweep:
    """Leakage against reconstruction error, a point a width and a line a series; a figure for ``rk.report``.

    The good corner is at the lower left: little error, nothing leaked.

    Attributes:
        series: name -> width (or any setting) -> (error, leakage).
        chance: of the leakage, a dashed line; None where it is not known.
    """

    series: Mapping[str, Mapping[Any, tuple[float, float]]]
    title: str = "The neck"
    xlabel: str = "reconstruction error"
    ylabel: str = "speaker told from the content"
    chance: float | None = None
    caption: str = ""
    wide: bool = False

    def html(self) -> str:
        """A line chart whose points are named."""
        from reprkit.reporting.drawing import chart, series_color
        from reprkit.reporting.figures import legend_html

        with chart(5.0, 3.4) as drawing:
            for number, points in enumerate(self.series.values()):
                values = np.array(list(points.values()), np.float64).reshape(-1, 2)
                drawing.axes.plot(values[:, 0], values[:, 1], color=series_color(number), marker="o", markersize=4)
                for name, (x, y) in zip(points, values, strict=True):
                    drawing.axes.annotate(str(name), (x, y), (4, 4), textcoords="offset points")
            if self.chance is not None:
                drawing.axes.axhline(self.chance, color=series_color(9), linestyle="--", linewidth=1)
            drawing.axes.set_xlabel(self.xlabel)
            drawing.axes.set_ylabel(self.ylabel)
            drawing.axes.margins(0.08)
        return drawing.svg + (legend_html(list(self.series)) if len(self.series) > 1 else "")


def neck_sweep(
    results: Mapping[str, Mapping[Any, Mapping[str, Any]]],
    *,
    leakage: str = "leakage.content.pooled",
    error: str = "reconstruction.error",
    **figure: Any,
) -> NeckSweep:
    """The figure of what ``rk.evaluate(model, test, "reconstruction", "leakage", fit_on=train)`` returned at each width.

    Args:
        results: series -> width -> results, such as ``{"autovc": {4: ..., 16: ..., 64: ...}}``.
        leakage: path of the number on the y axis.
        error: path of the number on the x axis.
        figure: what else ``NeckSweep`` takes.

    Raises:
        DataError: nothing was measured, or not these numbers.
    """
    series: dict[str, dict[Any, tuple[float, float]]] = {}
    for name, widths in results.items():
        for width, found in widths.items():
            flat = Results(found).flat
            for path in (error, leakage):
                if path not in flat:
                    raise DataError(
                        f"neck_sweep: {name}, {width}: nothing called {path!r} was measured\n"
                        f"  there is: {', '.join(flat) or 'nothing'}"
                    )
            series.setdefault(name, {})[width] = (flat[error], flat[leakage])
            figure.setdefault("chance", flat.get(f"{leakage.partition('.')[0]}.chance"))
    if not series:
        raise DataError("neck_sweep: there are no results to plot")
    return NeckSweep(series=series, **figure)
