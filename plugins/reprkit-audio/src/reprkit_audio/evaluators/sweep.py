"""Plot of a bottleneck sweep: leakage against reconstruction error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reprkit.errors import DataError
from reprkit.evaluation import Results


@dataclass(kw_only=True)
class BottleneckSweep:
    """Figure for ``rk.report``: leakage against reconstruction error, a point per width and a line per series.

    Best is the lower left corner: little error, no leakage.

    Attributes:
        series: name -> width (or any setting) -> (error, leakage).
        chance: chance level of the leakage, a dashed line; None if unknown.
    """

    series: Mapping[str, Mapping[Any, tuple[float, float]]]
    title: str = "Bottleneck sweep"
    xlabel: str = "reconstruction error"
    ylabel: str = "speaker accuracy from the content code"
    chance: float | None = None
    caption: str = ""
    wide: bool = False

    def html(self) -> str:
        """Draw a line chart with labeled points."""
        from reprkit.reporting.drawing import chart, series_color
        from reprkit.reporting.figures import legend_html

        with chart(5.0, 3.4) as drawing:
            for number, points in enumerate(self.series.values()):
                values = np.array(list(points.values()), np.float64).reshape(-1, 2)
                drawing.axes.plot(
                    values[:, 0], values[:, 1], color=series_color(number), marker="o", markersize=4
                )
                for name, (x, y) in zip(points, values, strict=True):
                    drawing.axes.annotate(str(name), (x, y), (4, 4), textcoords="offset points")
            if self.chance is not None:
                drawing.axes.axhline(self.chance, color=series_color(9), linestyle="--", linewidth=1)
            drawing.axes.set_xlabel(self.xlabel)
            drawing.axes.set_ylabel(self.ylabel)
            drawing.axes.margins(0.08)
        return drawing.svg + (legend_html(list(self.series)) if len(self.series) > 1 else "")


def bottleneck_sweep(
    results: Mapping[str, Mapping[Any, Mapping[str, Any]]],
    *,
    leakage: str = "leakage.content.pooled",
    error: str = "reconstruction.error",
    **figure: Any,
) -> BottleneckSweep:
    """Build the figure from the results of ``rk.evaluate(model, test, "reconstruction", "leakage", fit_on=train)`` at each width.

    Args:
        results: series -> width -> results, such as ``{"autovc": {4: ..., 16: ..., 64: ...}}``.
        leakage: path of the number on the y axis.
        error: path of the number on the x axis.
        figure: further arguments of ``BottleneckSweep``.

    Raises:
        DataError: no results, or results without these metrics.
    """
    series: dict[str, dict[Any, tuple[float, float]]] = {}
    for name, widths in results.items():
        for width, values in widths.items():
            flat = Results(values).flat
            for path in (error, leakage):
                if path not in flat:
                    raise DataError(
                        f"bottleneck_sweep: {name}, {width}: no metric {path!r}\n"
                        f"  known: {', '.join(flat) or 'none'}"
                    )
            series.setdefault(name, {})[width] = (flat[error], flat[leakage])
            figure.setdefault("chance", flat.get(f"{leakage.partition('.')[0]}.chance"))
    if not series:
        raise DataError("bottleneck_sweep: there are no results to plot")
    return BottleneckSweep(series=series, **figure)
