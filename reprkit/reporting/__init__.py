"""One self-contained HTML page a run: ``report``, and the building blocks for sections of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprkit.lazy import lazily

if TYPE_CHECKING:
    from reprkit.reporting.exhibits import exhibit
    from reprkit.reporting.figures import Bars, Curves, Figure, Images, Matrix, Scatter, Symbols
    from reprkit.reporting.page import Listing, Note, Page, Section, Table, Tiles
    from reprkit.reporting.sections import compare
    from reprkit.reporting.sounds import Sounds
    from reprkit.reporting.writer import report

# Lazily: evaluators import the figures through this package, and should not bring the page along.
_HOMES = {
    "Bars": "figures",
    "Curves": "figures",
    "Figure": "figures",
    "Images": "figures",
    "Listing": "page",
    "Matrix": "figures",
    "Note": "page",
    "Page": "page",
    "Scatter": "figures",
    "Section": "page",
    "Sounds": "sounds",
    "Symbols": "figures",
    "Table": "page",
    "Tiles": "page",
    "compare": "sections",
    "exhibit": "exhibits",
    "report": "writer",
}

__all__ = [
    "Bars",
    "Curves",
    "Figure",
    "Images",
    "Listing",
    "Matrix",
    "Note",
    "Page",
    "Scatter",
    "Section",
    "Sounds",
    "Symbols",
    "Table",
    "Tiles",
    "compare",
    "exhibit",
    "report",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
